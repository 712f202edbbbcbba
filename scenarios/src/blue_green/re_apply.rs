//! SCENARIOS 28: the manifests, as they were at first, applied while the other colour is live.

use std::time::Duration;

use harness::blue_green::Colour;
use harness::blue_green::colour::TRACK;
use harness::run::RunFolderError;
use harness::wait::{self, Observation};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::attempt::release;
use super::ground::{Done, Ground, SERVICE};
use super::load::Lanes;
use crate::Scenario;

/// The policies' bindings in fixtures/k8s-manifests.
const BINDINGS: [&str; 3] = [
    "trii-blue-green-services",
    "trii-blue-green-deployments",
    "trii-blue-green-pods",
];

pub async fn run(ground: &Ground<'_>, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    if status.colours[0].colour == Colour::Blue
        && !green_is_live(ground, scenario, &version).await?
    {
        return Ok(());
    }
    let guarded = match ground.subject.sabotage {
        true => unguarded(ground).await.map(Some),
        false => Ok(None),
    };
    let guarded = match guarded {
        Ok(guarded) => guarded,
        Err(mismatch) => return super::cannot(scenario, "nobody guards", mismatch).await,
    };
    let applied = service_to_blue(ground).await;
    refused(
        ground,
        scenario,
        "the Service of the first install",
        applied,
    )
    .await?;
    let applied = green_to_none(ground).await;
    refused(
        ground,
        scenario,
        "the Deployment of the first install",
        applied,
    )
    .await?;
    scenario
        .judge("green is as live as before", async {
            let status = ground.status().await?;
            let live = &status.colours[0];
            // More than it is to have: its autoscaler takes some of its pods.
            let has_its_pods = live.wanted > 0 && live.ready >= live.wanted;
            match live.colour == Colour::Green && has_its_pods {
                true => Ok(((), super::ground::in_words(&status))),
                false => {
                    let seen = super::ground::in_words(&status);
                    Err(ground.trouble("green live, with its pods", seen).into())
                }
            }
        })
        .await?;
    if let Some(bindings) = guarded {
        // As it was before: the next scenario begins with one live colour.
        let _ = ground.select(Some(Colour::Green)).await;
        let _ = ground
            .scale(Colour::Green, status.colours[0].wanted.max(1))
            .await;
        let _ = guard(ground, bindings).await;
    }
    Ok(())
}

/// Has green be live.
async fn green_is_live(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    version: &str,
) -> Result<bool, RunFolderError> {
    let Some(load) = super::loaded(ground, scenario, Lanes::quick()).await? else {
        return Ok(false);
    };
    let tried = release(ground, scenario, version).await;
    let _ = load.end().await;
    let live = super::is_live(ground, scenario, "green is live", tried.concluded).await?;
    Ok(live.is_some())
}

/// The Service of the first install, which selects blue.
async fn service_to_blue(ground: &Ground<'_>) -> Result<(), kube::Error> {
    let now = ground.api::<Service>().get(SERVICE).await?;
    let selector = now.spec.and_then(|it| it.selector);
    // Applied, it is replaced as a whole.
    let mut selector = selector.unwrap_or_default();
    selector.insert(TRACK.to_owned(), Colour::Blue.name().to_owned());
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE},
        "spec": {"selector": selector},
    });
    apply::<Service>(ground, SERVICE, &service).await
}

/// The Deployment of the first install, which has green at 0.
async fn green_to_none(ground: &Ground<'_>) -> Result<(), kube::Error> {
    let name = ground.objects().deployment(Colour::Green);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 0},
    });
    apply::<Deployment>(ground, &name, &deployment).await
}

/// As `kubectl apply --server-side --force-conflicts` does.
async fn apply<K>(ground: &Ground<'_>, name: &str, object: &Value) -> Result<(), kube::Error>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let as_kubectl = PatchParams::apply("kubectl").force();
    let api: Api<K> = ground.api();
    api.patch(name, &as_kubectl, &Patch::Apply(object)).await?;
    Ok(())
}

async fn refused(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    what: &str,
    applied: Result<(), kube::Error>,
) -> Result<(), RunFolderError> {
    let claim = format!("{what} is refused, with what to do instead");
    scenario
        .judge(&claim, async {
            match applied {
                Ok(()) => Err(ground.trouble("a refusal", "it was applied").into()),
                Err(kube::Error::Api(status)) if status.message.contains("blue-green deploy") => {
                    Ok(((), status.message.clone()))
                }
                Err(error) => Err(ground.trouble("the policy's refusal", error).into()),
            }
        })
        .await?;
    Ok(())
}

fn bindings(ground: &Ground<'_>) -> Api<ValidatingAdmissionPolicyBinding> {
    Api::all(ground.cluster.client().clone())
}

/// Takes the guard away, and keeps it.
async fn unguarded(ground: &Ground<'_>) -> Done<Vec<ValidatingAdmissionPolicyBinding>> {
    let api = bindings(ground);
    let mut kept = Vec::new();
    for name in BINDINGS {
        let binding = api.get(name).await;
        kept.push(binding.map_err(|error| ground.trouble("a policy's binding", error))?);
        let deleted = api.delete(name, &DeleteParams::default()).await;
        deleted.map_err(|error| ground.trouble("a binding that can be deleted", error))?;
    }
    // The API server goes by what it has heard of: its own refusal tells when it has.
    let unheard = wait::until(
        "the policy is no longer enforced",
        Duration::from_secs(20),
        Duration::from_millis(300),
        async || match green_to_none(ground).await {
            Ok(()) => Observation::Ready(()),
            Err(error) => Observation::NotYet(error.to_string()),
        },
    );
    unheard
        .await
        .map_err(|error| ground.trouble("no policy", error))?;
    Ok(kept)
}

async fn guard(ground: &Ground<'_>, kept: Vec<ValidatingAdmissionPolicyBinding>) -> Done {
    for mut binding in kept {
        binding.metadata.resource_version = None;
        binding.metadata.uid = None;
        let made = bindings(ground)
            .create(&PostParams::default(), &binding)
            .await;
        made.map_err(|error| ground.trouble("a policy's binding back", error))?;
    }
    Ok(())
}
