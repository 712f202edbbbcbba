//! The kind target: a Kubernetes cluster of this machine's own, with Postgres and Redis
//! as containers beside its nodes.

pub mod cluster;
pub mod deploy;
pub mod diagnostics;
pub mod health;
pub mod inputs;
mod install;
pub mod network;
mod reached;
pub mod release;
pub mod repair;
pub mod surroundings;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Instant;

use tokio::net::TcpListener;

use crate::bring_up::containers::silence;
use crate::bring_up::{Context, POSTGRES, REDIS, UpError, containers};
use crate::capability::Capability;
use crate::cluster::Access;
use crate::config::KindTarget;
use crate::engine::{self, Engine};
use crate::environment::{ClusterPlace, Environment, EnvironmentName};
use crate::images::{self, ForNodes, ImageReference};
use crate::run::event::{Part, Stage};
use crate::tools;
use cluster::Cluster;
use network::Network;

/// The images, in this order, that a cluster is given or has beside it.
const IMAGES: [&str; 5] = [POSTGRES, REDIS, "platform", "ingress", "metrics-server"];

/// The ingress' Service, as pods know it, and its HTTPS port.
pub const INGRESS_SERVICE: (&str, u16) = (
    "ingress-nginx-controller.ingress-nginx.svc.cluster.local",
    443,
);

/// What this machine has for it.
struct Machine {
    engine: Engine,
    kind: PathBuf,
    helm: PathBuf,
}

/// The node's reference, and those of [`IMAGES`].
struct Images {
    node: ImageReference,
    postgres: ImageReference,
    redis: ImageReference,
    platform: ImageReference,
    ingress: ImageReference,
    metrics_server: ImageReference,
}

/// A cluster with its backing services beside it: nothing of the platform yet.
struct Ground {
    images: Images,
    cluster: Cluster,
    network: Network,
    backing: [Part; 2],
}

/// Brings the platform up. Whatever was made is in `context.owned`, also after an error.
pub async fn bring_up(
    context: &Context<'_>,
    target: &KindTarget,
    name: &EnvironmentName,
) -> Result<Environment, UpError> {
    let machine = machine(context).await?;
    port_is_free(target.ingress_port).await?;
    let unique = format!("trii-{name}-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let stood_up = async {
        let provision = provision(context, &machine, target, &unique);
        let ground = context.stage(Stage::Provision, provision).await?;
        let deploy = install::platform(context, &machine.helm, target, &ground);
        let installed = context.stage(Stage::Deploy, deploy).await?;
        Ok::<_, UpError>((ground, installed))
    };
    let (ground, installed) = match stood_up.await {
        Ok(both) => both,
        Err(error) => {
            keep_diagnostics(context, &machine, &unique).await;
            return Err(error);
        }
    };
    let mut parts = installed.parts;
    parts.extend(ground.backing);
    let cluster = ClusterPlace {
        name: ground.cluster.name,
        kubeconfig: ground.cluster.kubeconfig,
        context: ground.cluster.context,
        namespace: target.namespace.clone(),
        backing_services: Some(ground.network.subnet),
        access: Access::ours(),
    };
    Ok(Environment {
        cluster: Some(cluster),
        ..context.environment(name, installed.entry, &Capability::KIND, parts)
    })
}

/// While the cluster is still there.
async fn keep_diagnostics(context: &Context<'_>, machine: &Machine, cluster: &str) {
    context.progress(Stage::Teardown, "collecting diagnostics");
    let Machine { engine, kind, .. } = machine;
    let (folder, lacking) = diagnostics::collect(engine, kind, cluster, context.run_folder).await;
    context.note(Stage::Teardown, diagnostics::in_words(&folder, &lacking));
}

async fn machine(context: &Context<'_>) -> Result<Machine, UpError> {
    let engine = Engine::find(engine::PATIENCE).await;
    let tools_dir = context.home.tools();
    let tool = |name: &'static str| {
        tools::own_or_on_path(&tools_dir, name).ok_or_else(|| UpError::NoSupply {
            name,
            why: "it is not on PATH; --provision gets it".into(),
        })
    };
    Ok(Machine {
        engine: engine.map_err(|none| UpError::NoEngine {
            why: none.in_short(),
        })?,
        kind: tool("kind")?,
        helm: tool("helm")?,
    })
}

/// Seen now, not once the cluster's node is refused it. 0 is any that is free.
async fn port_is_free(port: u16) -> Result<(), UpError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let bound = bound.map_err(|source| UpError::IngressPort { port, source });
    bound.map(drop)
}

async fn provision(
    context: &Context<'_>,
    machine: &Machine,
    target: &KindTarget,
    unique: &str,
) -> Result<Ground, UpError> {
    let engine = &machine.engine;
    let images = images(context, engine, target).await?;
    let network = network::create(context, engine, unique).await?;
    let node = images.node.to_string();
    let cluster = cluster::create(context, engine, &machine.kind, target, &node, &network);
    // While the control plane starts.
    let loaded = async {
        cluster::nodes_take_images(context, engine, unique).await?;
        load(context, engine, unique, &images).await
    };
    let begun = Instant::now();
    let accepts = |name: &str| {
        let step = format!("{name} accepts connections");
        context.step(Stage::Provision, step, begun);
    };
    let on = Some(network.name.as_str());
    let (postgres, redis) = (images.postgres.to_string(), images.redis.to_string());
    let postgres = async {
        let part = containers::postgres(context, engine, &postgres, on).await?;
        accepts("Postgres");
        Ok::<_, UpError>(part)
    };
    let redis = async {
        let part = containers::redis(context, engine, &redis, on).await?;
        accepts("Redis");
        Ok::<_, UpError>(part)
    };
    let (cluster, (), postgres, redis) = tokio::select! {
        all = async { futures::try_join!(cluster, loaded, postgres, redis) } => all?,
        () = silence(engine) => return Err(UpError::Engine {
            what: format!("go on with the cluster {unique}"),
            reason: "it has stopped answering".into(),
        }),
    };
    Ok(Ground {
        images,
        cluster,
        network,
        backing: [postgres, redis],
    })
}

/// Has every image here: pulled, or built where no registry answers.
async fn images(
    context: &Context<'_>,
    engine: &Engine,
    target: &KindTarget,
) -> Result<Images, UpError> {
    let begun = Instant::now();
    let workshop = context.workshop();
    let node = images::node(&workshop, &target.kubernetes).map_err(|error| UpError::Engine {
        what: "have the image of a node".into(),
        reason: error.to_string(),
    })?;
    let names: Vec<String> = [node.as_str()]
        .into_iter()
        .chain(IMAGES)
        .map(str::to_owned)
        .collect();
    let failed = |reason| UpError::Engine {
        what: format!("have the images {}", names.join(", ")),
        reason,
    };
    let progress = |text: &str| context.progress(Stage::Provision, text);
    let having = images::ensure_all(engine, &workshop, &names, context.supply, &progress);
    let deadline = context.deadlines.images;
    let had = tokio::time::timeout(deadline, having)
        .await
        .map_err(|_| failed(format!("not within {deadline:?} (deadlines.images)")))?
        .map_err(|error| failed(crate::chain(&error)))?;
    if !had.split.is_empty() {
        context.note(Stage::Provision, had.split.in_words());
    }
    context.step(Stage::Provision, "every image is here", begun);
    let [node, postgres, redis, platform, ingress, metrics_server] = had
        .images
        .try_into()
        .map_err(|had: Vec<_>| failed(format!("{} were had", had.len())))?;
    Ok(Images {
        node,
        postgres,
        redis,
        platform,
        ingress,
        metrics_server,
    })
}

/// Brings the images that pods use to every node.
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
    let wanted = [
        platform,
        ForNodes::as_it_is(&images.ingress),
        ForNodes::as_it_is(&images.metrics_server),
    ];
    let progress = |text: &str| context.progress(Stage::Provision, text);
    let loaded = images::load(engine, cluster, &wanted, &progress).await;
    loaded.map_err(|error| UpError::Engine {
        what: "bring the images to the nodes".into(),
        reason: crate::chain(&error),
    })?;
    context.step(Stage::Provision, "the images are on every node", begun);
    Ok(())
}
