//! Installs the platform on a new cluster, with what the chart does not contain.

use std::path::Path;

use super::manifests::BackingHosts;
use super::{INGRESS, METRICS_SERVER};
use super::{Provisioned, input_check, manifests, ready_check};
use crate::bring_up::{Context, POSTGRES, REDIS, UpError};
use crate::certificates::Certificates;
use crate::config::KindTarget;
use crate::environment::part_in_cluster;
use crate::releases::{self, TargetValues};
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
    let values = TargetValues::of_kind(target, Some(&provisioned.network.subnet));
    let (config, places) = (context.config, (context.workspace, context.home));
    for release in releases::all(config, &values, places, &platform.version) {
        let released = async {
            let progress = |text: &str| context.progress(Stage::Deploy, text);
            let deadline = context.deadlines.release;
            let deployed = helm::deploy(&cluster, helm, &release, deadline, &progress).await;
            let failure =
                |error: DeployError| UpError::Release(Box::new(error.failure(&cluster, &release)));
            deployed.map(drop).map_err(failure)
        };
        let step = format!("the release {} is complete", release.name);
        context.timed(Stage::Deploy, &step, released).await?;
    }
    let authority = context.folder.path().join("authority.pem");
    std::fs::write(&authority, &certificates.authority_pem).map_err(UpError::system(
        "keep the certificate of the run's authority",
    ))?;
    let entry = EntryPoint::signed_by(authority, place.ingress);
    let ready = ready_check::read(context.config, context.workspace);
    if let Some(file) = ready.map_err(|error| UpError::Input(Box::new(error)))? {
        let answers = async {
            let answered = ready_check::succeeds(context, &entry, &file).await;
            answered.map_err(UpError::wait("ingress", None))
        };
        let step = "the platform answers through the ingress";
        context.timed(Stage::Deploy, step, answers).await?;
    }
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
    let images = &provisioned.images;
    let (workspace, platform) = (context.workspace, &context.config.platform);
    let given = input_check::namespaces_of(platform, workspace);
    let given = given.map_err(|error| UpError::Input(Box::new(error)))?;
    for namespace in [&cluster.namespace, &platform.helpers_namespace] {
        if !given.contains(namespace) {
            cluster.apply(&manifests::namespace(namespace)).await?;
        }
    }
    let (ingress, metrics_server) = (&images[INGRESS], &images[METRICS_SERVER]);
    let manifests = manifests::manifests(workspace, platform, ingress, metrics_server);
    for manifest in manifests.map_err(UpError::system("read the manifests beside the chart"))? {
        cluster.apply(&manifest).await?;
    }
    let host = |name: &str| {
        let mut parts = provisioned.backing.iter();
        parts.find(|part| part.name == name).map(host_of)
    };
    let hosts = BackingHosts {
        postgres: host(POSTGRES),
        redis: host(REDIS),
    };
    let secrets = manifests::secrets(context.config, context.secrets, hosts, certificates);
    for (name, values) in secrets {
        cluster.apply_secret(&name, values).await?;
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
