//! SCENARIOS 28: the manifests of the first install are applied while green is live.

use std::time::Duration;

use base::wait::{self, Observation};
use blue_green::Colour;
use blue_green::colour::TRACK;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::attempt::release;
use super::setup::Setup;
use super::traffic::Lanes;
use crate::{Mismatch, RunResult, Scenario};

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    if status.colours[0].colour == Colour::Blue
        && !make_green_live(setup, scenario, &version).await?
    {
        return Ok(());
    }
    let mut removed = None;
    if setup.subject.sabotage {
        match remove_guard(setup).await {
            Ok(bindings) => removed = Some(bindings),
            Err(mismatch) => {
                let claim = "the policies are removed";
                return scenario.record_failure(claim, mismatch).await;
            }
        }
    }
    let applied = service_to_blue(setup).await;
    refused(setup, scenario, "the Service of the first install", applied).await?;
    let what = "the Deployment of the first install";
    let applied = green_to_none(setup).await;
    refused(setup, scenario, what, applied).await?;
    scenario
        .evaluate("green is as live as before", async {
            let status = Box::pin(setup.status()).await?;
            let live = &status.colours[0];
            // While the autoscaler removes pods, there are more than wanted.
            let has_its_pods = live.wanted > 0 && live.ready >= live.wanted;
            let seen = super::setup::summary(&status);
            match live.colour == Colour::Green && has_its_pods {
                true => Ok(((), seen)),
                false => setup.fail("green live, with its pods", seen),
            }
        })
        .await?;
    if let Some(bindings) = removed {
        // The next scenario starts with one live colour.
        let _ = setup.select(Some(Colour::Green)).await;
        let _ = setup
            .scale(Colour::Green, status.colours[0].wanted.max(1))
            .await;
        let _ = restore_guard(setup, bindings).await;
    }
    Ok(())
}

async fn make_green_live(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    version: &str,
) -> RunResult<bool> {
    let Some(traffic) = super::start_traffic(setup, scenario, Lanes::quick()).await? else {
        return Ok(false);
    };
    let attempt = release(setup, scenario, version).await;
    let _ = traffic.end().await;
    let live = super::check_live(setup, scenario, "green is live", attempt.conclusion).await?;
    Ok(live.is_some())
}

/// Applies the Service of the first install, which selects blue.
async fn service_to_blue(setup: &Setup<'_>) -> Result<(), kube::Error> {
    let now = setup.api::<Service>().get(setup.service()).await?;
    let selector = now.spec.and_then(|it| it.selector);
    // Apply replaces the selector as a whole.
    let mut selector = selector.unwrap_or_default();
    selector.insert(TRACK.to_owned(), Colour::Blue.name().to_owned());
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": setup.service()},
        "spec": {"selector": selector},
    });
    apply::<Service>(setup, setup.service(), &service).await
}

/// Applies the Deployment of the first install, which has green at 0.
async fn green_to_none(setup: &Setup<'_>) -> Result<(), kube::Error> {
    let name = setup.objects().deployment(Colour::Green);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 0},
    });
    apply::<Deployment>(setup, &name, &deployment).await
}

/// Applies an object like `kubectl apply --server-side --force-conflicts`.
async fn apply<K>(setup: &Setup<'_>, name: &str, object: &Value) -> Result<(), kube::Error>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let as_kubectl = PatchParams::apply("kubectl").force();
    let api: Api<K> = setup.api();
    api.patch(name, &as_kubectl, &Patch::Apply(object)).await?;
    Ok(())
}

async fn refused(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    what: &str,
    applied: Result<(), kube::Error>,
) -> RunResult {
    let claim = format!("{what} is refused, with what to do instead");
    scenario
        .evaluate(&claim, async {
            match applied {
                Ok(()) => setup.fail("a refusal", "it was applied"),
                Err(kube::Error::Api(status)) if status.message.contains("blue-green deploy") => {
                    Ok(((), status.message.clone()))
                }
                Err(error) => setup.fail("the policy's refusal", error),
            }
        })
        .await?;
    Ok(())
}

fn bindings(setup: &Setup<'_>) -> Api<ValidatingAdmissionPolicyBinding> {
    Api::all(setup.cluster.client().clone())
}

/// Removes the policies' bindings, and returns them.
async fn remove_guard(
    setup: &Setup<'_>,
) -> Result<Vec<ValidatingAdmissionPolicyBinding>, Mismatch> {
    let api = bindings(setup);
    let mut removed = Vec::new();
    for name in &setup.config.policy_bindings {
        let binding = api.get(name).await;
        removed.push(binding.map_err(|error| setup.mismatch("a policy's binding", error))?);
        let deleted = api.delete(name, &DeleteParams::default()).await;
        deleted.map_err(|error| setup.mismatch("a binding that can be deleted", error))?;
    }
    // The API server enforces a deleted binding for a while.
    let unenforced = wait::until(
        "the policy is no longer enforced",
        Duration::from_secs(20),
        Duration::from_millis(300),
        async || match green_to_none(setup).await {
            Ok(()) => Observation::Ready(()),
            Err(error) => Observation::NotYet(error.to_string()),
        },
    );
    unenforced
        .await
        .map_err(|error| setup.mismatch("no policy", error))?;
    Ok(removed)
}

/// Creates the bindings again.
async fn restore_guard(
    setup: &Setup<'_>,
    removed: Vec<ValidatingAdmissionPolicyBinding>,
) -> Result<(), Mismatch> {
    let api = bindings(setup);
    for mut binding in removed {
        binding.metadata.resource_version = None;
        binding.metadata.uid = None;
        let created = api.create(&PostParams::default(), &binding).await;
        created.map_err(|error| setup.mismatch("a policy's binding back", error))?;
    }
    Ok(())
}
