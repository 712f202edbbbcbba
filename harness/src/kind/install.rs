//! The platform and what stands around it, on a cluster that is there.

use std::path::Path;
use std::time::Instant;

use super::{Ground, Images, reached, surroundings};
use crate::bring_up::{Context, UpError};
use crate::certificates::Certificates;
use crate::cluster::{Access, Cluster};
use crate::config::KindTarget;
use crate::entry::Entry;
use crate::release::{self, DeployError};
use crate::run::event::{Part, Stage};
use crate::service::Service;

/// Where the ingress controller is: `fixtures/k8s-manifests/ingress`.
const INGRESS_NAMESPACE: &str = "ingress-nginx";

/// A platform that answers.
pub(super) struct Installed {
    /// Where the platform answers.
    pub entry: Entry,
    /// What was installed.
    pub parts: Vec<Part>,
}

/// Installs the platform, and waits until it answers through the ingress.
pub(super) async fn platform(
    context: &Context<'_>,
    helm: &Path,
    target: &KindTarget,
    ground: &Ground,
) -> Result<Installed, UpError> {
    let place = &ground.cluster;
    let (kubeconfig, namespace) = (&place.kubeconfig, &target.namespace);
    let cluster = Cluster::open(kubeconfig, &place.context, namespace, Access::ours()).await?;
    let platform = &context.config.platform;
    let certificates = Certificates::generate(&[&platform.site_host, &platform.api_host])?;
    let around = surroundings(context, &cluster, ground, &certificates);
    timed(
        context,
        "the ingress, the metrics and the Secrets are applied",
        around,
    )
    .await?;
    let released = async {
        let progress = |text: &str| context.progress(Stage::Deploy, text);
        let subnet = &ground.network.subnet;
        let version = &platform.version;
        let release = super::release::of(
            context.config,
            target,
            context.workspace,
            version,
            Some(subnet),
        );
        let deadline = context.deadlines.release;
        let deployed = release::deploy(&cluster, helm, &release, deadline, &progress).await;
        let failure = |error: DeployError| UpError::Release(Box::new(error.failure(&cluster)));
        deployed.map(drop).map_err(failure)
    };
    timed(context, "the release is complete", released).await?;
    let authority = context.folder.path().join("authority.pem");
    std::fs::write(&authority, &certificates.authority_pem).map_err(UpError::system(
        "keep the certificate of the run's authority",
    ))?;
    let entry = Entry::signed_by(authority, place.ingress);
    let answers = async {
        let reached = reached::every_service(context, &entry, platform).await;
        reached.map_err(|wait| UpError::Wait {
            part: "ingress".into(),
            log: None,
            wait,
        })
    };
    timed(
        context,
        "every service answers through the ingress",
        answers,
    )
    .await?;
    Ok(Installed {
        parts: parts(target, ground),
        entry,
    })
}

async fn timed(
    context: &Context<'_>,
    step: &str,
    work: impl Future<Output = Result<(), UpError>>,
) -> Result<(), UpError> {
    let begun = Instant::now();
    work.await?;
    context.step(Stage::Deploy, step, begun);
    Ok(())
}

/// What the chart does not make.
async fn surroundings(
    context: &Context<'_>,
    cluster: &Cluster,
    ground: &Ground,
    certificates: &Certificates,
) -> Result<(), UpError> {
    let Images {
        ingress,
        metrics_server,
        ..
    } = &ground.images;
    let manifests = surroundings::manifests(context.workspace, ingress, metrics_server);
    for manifest in manifests.map_err(UpError::system("read what the chart does not make"))? {
        cluster.apply(&manifest).await?;
    }
    let [postgres, redis] = ground.backing.each_ref().map(host_of);
    let secrets = surroundings::secrets(context.secrets, postgres, redis, certificates);
    for (name, values) in secrets {
        cluster.apply_secret(name, values).await?;
    }
    Ok(())
}

/// A container's name, which pods resolve through the node and the engine.
fn host_of(part: &Part) -> &str {
    part.runs_as
        .strip_prefix("container ")
        .unwrap_or(&part.runs_as)
}

fn parts(target: &KindTarget, ground: &Ground) -> Vec<Part> {
    let place = &ground.cluster;
    let part = |name: &str, runs_as: String, address: String| Part {
        name: name.to_owned(),
        runs_as,
        address,
        metrics: None,
        log: None,
    };
    let services = Service::ALL.map(|service| service.in_cluster(&target.namespace));
    let cluster = part(
        "cluster",
        format!("kind cluster {}", place.name),
        place.control_plane.clone(),
    );
    let ingress = part(
        "ingress",
        format!("Deployment {INGRESS_NAMESPACE}/{INGRESS_NAMESPACE}-controller"),
        place.ingress.to_string(),
    );
    [cluster, ingress].into_iter().chain(services).collect()
}
