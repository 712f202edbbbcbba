//! The kind target: a Kubernetes cluster on this machine, with Postgres and Redis as containers
//! beside its nodes.

pub mod cluster;
pub mod deploy;
pub mod diagnostics;
pub mod health;
mod ingress_check;
pub mod input_check;
mod install;
pub mod manifests;
pub mod network;
pub mod release;
pub mod repair;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Instant;

use tokio::net::TcpListener;

use crate::bring_up::{Context, POSTGRES, REDIS, UpError, containers};
use crate::capability::Capability;
use crate::config::KindTarget;
use crate::environment::{ClusterPlace, Environment, EnvironmentName};
use base::run::event::{Part, Stage};
use cluster::KindCluster;
use kubernetes::Permissions;
use machine::containers::silence;
use machine::engine::{self, Engine};
use machine::images::{self, ForNodes, ImageReference};
use machine::tools;
use network::Network;

/// The images that a cluster needs, beside its node's, in the order of [`Images`].
const IMAGES: [&str; 5] = [POSTGRES, REDIS, "platform", "ingress", "metrics-server"];

/// The ingress' Service, as pods resolve it, and its HTTPS port.
pub const INGRESS_SERVICE: (&str, u16) = (
    "ingress-nginx-controller.ingress-nginx.svc.cluster.local",
    443,
);

struct Programs {
    engine: Engine,
    kind: PathBuf,
    helm: PathBuf,
}

struct Images {
    node: ImageReference,
    postgres: ImageReference,
    redis: ImageReference,
    platform: ImageReference,
    ingress: ImageReference,
    metrics_server: ImageReference,
}

/// A cluster and its backing services, without the platform.
struct Provisioned {
    images: Images,
    cluster: KindCluster,
    network: Network,
    backing: [Part; 2],
}

/// Brings the platform up. `context.owned` has everything that it creates, also after an error.
pub async fn bring_up(
    context: &Context<'_>,
    target: &KindTarget,
    name: &EnvironmentName,
) -> Result<Environment, UpError> {
    let programs = programs(context).await?;
    port_is_free(target.ingress_port).await?;
    let unique = format!("trii-{name}-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let up = async {
        let provision = Box::pin(provision(context, &programs, target, &unique));
        let provisioned = context.stage(Stage::Provision, provision).await?;
        let deploy = Box::pin(install::platform(
            context,
            &programs.helm,
            target,
            &provisioned,
        ));
        let installed = context.stage(Stage::Deploy, deploy).await?;
        Ok::<_, UpError>((provisioned, installed))
    };
    let (provisioned, installed) = match up.await {
        Ok(both) => both,
        Err(error) => {
            keep_diagnostics(context, &programs, &unique).await;
            return Err(error);
        }
    };
    let mut parts = installed.parts;
    parts.extend(provisioned.backing);
    let cluster = ClusterPlace {
        name: provisioned.cluster.name,
        kubeconfig: provisioned.cluster.kubeconfig,
        context: provisioned.cluster.context,
        namespace: target.namespace.clone(),
        backing_services: Some(provisioned.network.subnet),
        permissions: Permissions::ours(),
    };
    Ok(Environment {
        cluster: Some(cluster),
        ..context.environment(name, installed.entry, &Capability::KIND, parts)
    })
}

async fn keep_diagnostics(context: &Context<'_>, programs: &Programs, cluster: &str) {
    context.progress(Stage::Teardown, "collecting diagnostics");
    let Programs { engine, kind, .. } = programs;
    let (folder, lacking) = diagnostics::collect(engine, kind, cluster, context.run_folder).await;
    context.note(Stage::Teardown, diagnostics::in_words(&folder, &lacking));
}

async fn programs(context: &Context<'_>) -> Result<Programs, UpError> {
    let engine = Engine::find(engine::TIMEOUT).await;
    let tools_dir = context.home.tools();
    let tool = |name: &'static str| {
        tools::own_or_on_path(&tools_dir, name).ok_or_else(|| UpError::NoSupply {
            name,
            why: "it is not on PATH; --provision gets it".into(),
        })
    };
    Ok(Programs {
        engine: engine.map_err(|none| UpError::NoEngine {
            why: none.in_short(),
        })?,
        kind: tool("kind")?,
        helm: tool("helm")?,
    })
}

/// Checks the port before the cluster's node needs it. 0 is any free port.
async fn port_is_free(port: u16) -> Result<(), UpError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let bound = bound.map_err(|source| UpError::IngressPort { port, source });
    bound.map(drop)
}

async fn provision(
    context: &Context<'_>,
    programs: &Programs,
    target: &KindTarget,
    unique: &str,
) -> Result<Provisioned, UpError> {
    let engine = &programs.engine;
    let images = images(context, engine, target).await?;
    let network = network::create(context, engine, unique).await?;
    let node = images.node.to_string();
    let cluster = cluster::create(context, engine, &programs.kind, target, &node, &network);
    // While the control plane starts.
    let loaded = async {
        cluster::nodes_take_images(context, engine, unique).await?;
        load(context, engine, unique, &images).await
    };
    let on = Some(network.name.as_str());
    let (postgres, redis) = (images.postgres.to_string(), images.redis.to_string());
    let postgres = containers::postgres(context, engine, &postgres, on);
    let postgres = context.timed(Stage::Provision, "Postgres accepts connections", postgres);
    let redis = containers::redis(context, engine, &redis, on);
    let redis = context.timed(Stage::Provision, "Redis accepts connections", redis);
    let (cluster, (), postgres, redis) = tokio::select! {
        all = async { futures::try_join!(cluster, loaded, postgres, redis) } => all?,
        () = silence(engine) => return Err(UpError::Engine {
            what: format!("continue with the cluster {unique}"),
            reason: "it has stopped answering".into(),
        }),
    };
    Ok(Provisioned {
        images,
        cluster,
        network,
        backing: [postgres, redis],
    })
}

/// Pulls every image, or builds it if no registry answers.
async fn images(
    context: &Context<'_>,
    engine: &Engine,
    target: &KindTarget,
) -> Result<Images, UpError> {
    let begun = Instant::now();
    let workshop = context.workshop();
    let node = images::node(&workshop, &target.kubernetes)
        .map_err(|error| UpError::engine("get the image of a node")(error.to_string()))?;
    let names = [node.as_str()].into_iter().chain(IMAGES);
    let names: Vec<String> = names.map(str::to_owned).collect();
    let failed = |reason| UpError::Engine {
        what: format!("get the images {}", names.join(", ")),
        reason,
    };
    let progress = |text: &str| context.progress(Stage::Provision, text);
    let obtaining = images::ensure_all(engine, &workshop, &names, context.supply, &progress);
    let deadline = context.deadlines.images;
    let obtained = tokio::time::timeout(deadline, obtaining)
        .await
        .map_err(|_| failed(format!("not within {deadline:?} (deadlines.images)")))?
        .map_err(|error| failed(base::chain(&error)))?;
    if !obtained.split.is_empty() {
        context.note(Stage::Provision, obtained.split.summary());
    }
    context.step(Stage::Provision, "every image is here", begun);
    let [node, postgres, redis, platform, ingress, metrics_server] = obtained
        .images
        .try_into()
        .map_err(|images: Vec<_>| failed(format!("it has {}", images.len())))?;
    Ok(Images {
        node,
        postgres,
        redis,
        platform,
        ingress,
        metrics_server,
    })
}

/// Loads the images that pods use into every node.
async fn load(
    context: &Context<'_>,
    engine: &Engine,
    cluster: &str,
    images: &Images,
) -> Result<(), UpError> {
    let begun = Instant::now();
    let version = &context.config.platform.version;
    let platform = ForNodes {
        image: images.platform.to_string(),
        known_as: release::image(version),
    };
    let images_of_pods = [
        platform,
        ForNodes::as_it_is(&images.ingress),
        ForNodes::as_it_is(&images.metrics_server),
    ];
    let progress = |text: &str| context.progress(Stage::Provision, text);
    let loaded = images::load(engine, cluster, &images_of_pods, &progress).await;
    loaded
        .map_err(|error| UpError::engine("load the images into the nodes")(base::chain(&error)))?;
    context.step(Stage::Provision, "the images are on every node", begun);
    Ok(())
}
