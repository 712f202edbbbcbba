//! The platform and what stands around it, on a cluster that is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::{Ground, reached};
use crate::bring_up::{Context, UpError};
use crate::certificates::Certificates;
use crate::cluster::Cluster;
use crate::config::KindTarget;
use crate::entry::Entry;
use crate::release::{self, DeployError};
use crate::run::event::{Part, Stage};
use crate::service::Service;

/// The namespaces that there are.
pub(super) const NAMESPACES: &str = "fixtures/k8s-manifests/namespaces/namespaces.yaml";
const INGRESS: &str = "fixtures/k8s-manifests/ingress/traefik.yaml";
const METRICS_SERVER: &str = "fixtures/k8s-manifests/metrics-server/metrics-server.yaml";

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
    let cluster = Cluster::open(&place.kubeconfig, &place.context, &target.namespace).await?;
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
    let manifest = |file: &str| {
        let path = context.workspace.join(file);
        std::fs::read_to_string(&path).map_err(UpError::system(format!("read {}", path.display())))
    };
    let images = &ground.images;
    let ingress = manifest(INGRESS)?.replace("${INGRESS_IMAGE}", &images.ingress.to_string());
    let metrics_server = manifest(METRICS_SERVER)?.replace(
        "${METRICS_SERVER_IMAGE}",
        &images.metrics_server.to_string(),
    );
    // The ingress first: it takes the longest to be ready.
    for manifest in [ingress, manifest(NAMESPACES)?, metrics_server] {
        cluster.apply(&manifest).await?;
    }
    for (name, values) in secrets(context, ground, certificates) {
        cluster.apply_secret(name, values).await?;
    }
    Ok(())
}

/// The only Secrets there are, by name and key.
fn secrets<'a>(
    context: &Context<'_>,
    ground: &Ground,
    certificates: &Certificates,
) -> [(&'a str, BTreeMap<&'a str, String>); 4] {
    let secrets = context.secrets;
    let [postgres, redis] = &ground.backing;
    let database = format!(
        "postgres://trii:{}@{}:5432/postgres",
        secrets.postgres_password,
        host_of(postgres)
    );
    let cache = format!(
        "redis://:{}@{}:6379",
        secrets.redis_password,
        host_of(redis)
    );
    let jwt = [
        ("secret", secrets.jwt_secret.clone()),
        ("demo-password", secrets.demo_password.clone()),
    ];
    let tls = [
        ("tls.crt", certificates.certificate_pem.clone()),
        ("tls.key", certificates.key_pem.clone()),
    ];
    [
        ("database-credentials", BTreeMap::from([("url", database)])),
        ("redis-credentials", BTreeMap::from([("url", cache)])),
        ("jwt-credentials", BTreeMap::from(jwt)),
        ("trii-tls", BTreeMap::from(tls)),
    ]
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
        log: None,
    };
    let namespace = &target.namespace;
    let services = Service::ALL.iter().map(|service| {
        let name = service.name();
        part(
            name,
            format!("Deployment {namespace}/{name}"),
            format!("{name}.{namespace}"),
        )
    });
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
