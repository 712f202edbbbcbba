//! Installs the platform on a new cluster, with what the chart does not contain.

use std::path::Path;

use super::{Images, Provisioned, ingress_check, manifests};
use crate::bring_up::{Context, UpError};
use crate::certificates::Certificates;
use crate::config::KindTarget;
use crate::environment::part_in_cluster;
use base::entry_point::EntryPoint;
use base::run::event::{Part, Stage};
use helm::DeployError;
use kubernetes::{Cluster, Permissions};

/// The ingress controller's namespace: `fixtures/k8s-manifests/ingress`.
const INGRESS_NAMESPACE: &str = "ingress-nginx";

pub(super) struct InstalledPlatform {
    /// Where the platform answers.
    pub entry: EntryPoint,
    pub parts: Vec<Part>,
}

/// Installs the platform, and waits until it answers through the ingress.
pub(super) async fn platform(
    context: &Context<'_>,
    helm: &Path,
    target: &KindTarget,
    provisioned: &Provisioned,
) -> Result<InstalledPlatform, UpError> {
    let place = &provisioned.cluster;
    let (kubeconfig, namespace) = (&place.kubeconfig, &target.namespace);
    let cluster = Cluster::open(kubeconfig, &place.context, namespace, Permissions::ours()).await?;
    let platform = &context.config.platform;
    let certificates = Certificates::generate(&[&platform.site_host, &platform.api_host])?;
    let around = apply_manifests(context, &cluster, provisioned, &certificates);
    let step = "the ingress, the metrics and the Secrets are applied";
    context.timed(Stage::Deploy, step, around).await?;
    let released = async {
        let progress = |text: &str| context.progress(Stage::Deploy, text);
        let subnet = Some(provisioned.network.subnet.as_str());
        let (config, workspace) = (context.config, context.workspace);
        let release = super::release::of(config, target, workspace, &platform.version, subnet);
        let deadline = context.deadlines.release;
        let deployed = helm::deploy(&cluster, helm, &release, deadline, &progress).await;
        let failure = |error: DeployError| UpError::Release(Box::new(error.failure(&cluster)));
        deployed.map(drop).map_err(failure)
    };
    let step = "the release is complete";
    context.timed(Stage::Deploy, step, released).await?;
    let authority = context.folder.path().join("authority.pem");
    std::fs::write(&authority, &certificates.authority_pem).map_err(UpError::system(
        "keep the certificate of the run's authority",
    ))?;
    let entry = EntryPoint::signed_by(authority, place.ingress);
    let answers = async {
        let reached = ingress_check::every_service(context, &entry, platform).await;
        reached.map_err(UpError::wait("ingress", None))
    };
    let step = "every service answers through the ingress";
    context.timed(Stage::Deploy, step, answers).await?;
    Ok(InstalledPlatform {
        parts: parts(context, target, provisioned),
        entry,
    })
}

/// Applies what the chart does not contain.
async fn apply_manifests(
    context: &Context<'_>,
    cluster: &Cluster,
    provisioned: &Provisioned,
    certificates: &Certificates,
) -> Result<(), UpError> {
    let Images {
        ingress,
        metrics_server,
        ..
    } = &provisioned.images;
    let manifests = manifests::manifests(context.workspace, ingress, metrics_server);
    for manifest in manifests.map_err(UpError::system("read the manifests beside the chart"))? {
        cluster.apply(&manifest).await?;
    }
    let [postgres, redis] = provisioned.backing.each_ref().map(host_of);
    let secrets = manifests::secrets(context.secrets, postgres, redis, certificates);
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

fn parts(context: &Context<'_>, target: &KindTarget, provisioned: &Provisioned) -> Vec<Part> {
    let place = &provisioned.cluster;
    let part = |name: &str, runs_as: String, address: String| Part {
        name: name.to_owned(),
        runs_as,
        address,
        metrics: None,
        log: None,
    };
    let services = context.config.service_names();
    let services = services.map(|service| part_in_cluster(service, &target.namespace));
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
