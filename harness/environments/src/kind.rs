//! The kind target: a Kubernetes cluster on this machine, with Postgres and Redis as containers
//! beside its nodes.

pub mod cluster;
pub mod deploy;
pub mod diagnostics;
pub mod health;
pub mod input_check;
mod install;
pub mod manifests;
pub mod network;
mod ready_check;
pub mod repair;
pub mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Instant;

use tokio::net::TcpListener;

use crate::bring_up::{Context, POSTGRES, REDIS, UpError, containers};
use crate::capability::Capability;
use crate::config::{Config, KindTarget};
use crate::environment::{ClusterPlace, Environment, EnvironmentName};
use base::run::event::{Part, Stage};
use cluster::KindCluster;
use kubernetes::Permissions;
use machine::containers::silence;
use machine::engine::{self, Engine};
use machine::images::{self, ForNodes, ImageReference};
use machine::tools;
use network::Network;

/// The recipes of what a cluster has beside the platform.
pub(crate) const INGRESS: &str = "ingress";
pub(crate) const METRICS_SERVER: &str = "metrics-server";

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

/// The images that a cluster needs, by recipe.
type Images = BTreeMap<String, ImageReference>;

/// A cluster and its backing services, without the platform.
struct Provisioned {
    images: Images,
    cluster: KindCluster,
    network: Network,
    backing: Vec<Part>,
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
    let mut up = context.environment(name, installed.entry, &Capability::KIND, parts);
    if !context.config.services.iter().any(|it| it.blue_green) {
        up.capabilities.remove(&Capability::BlueGreen);
    }
    Ok(Environment {
        cluster: Some(cluster),
        ..up
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
    let (node, images) = images(context, engine, target).await?;
    let network = network::create(context, engine, unique).await?;
    let cluster = cluster::create(context, engine, &programs.kind, target, &node, &network);
    // While the control plane starts.
    let loaded = async {
        cluster::nodes_take_images(context, engine, unique).await?;
        load(context, engine, unique, &images).await
    };
    let backing = backing(context, engine, &images, &network);
    let (cluster, (), backing) = tokio::select! {
        all = async { futures::try_join!(cluster, loaded, backing) } => all?,
        () = silence(engine) => return Err(UpError::Engine {
            what: format!("continue with the cluster {unique}"),
            reason: "it has stopped answering".into(),
        }),
    };
    Ok(Provisioned {
        images,
        cluster,
        network,
        backing,
    })
}

/// Starts the backing services that the platform needs.
async fn backing(
    context: &Context<'_>,
    engine: &Engine,
    images: &Images,
    network: &Network,
) -> Result<Vec<Part>, UpError> {
    let needed = &context.config.backing_services;
    let on = Some(network.name.as_str());
    let postgres = async {
        let Some(needed) = &needed.postgres else {
            return Ok(None);
        };
        let image = images[POSTGRES].to_string();
        let started = containers::postgres(context, engine, needed, &image, on);
        let step = "Postgres accepts connections";
        context
            .timed(Stage::Provision, step, started)
            .await
            .map(Some)
    };
    let redis = async {
        if needed.redis.is_none() {
            return Ok(None);
        }
        let image = images[REDIS].to_string();
        let started = containers::redis(context, engine, &image, on);
        let step = "Redis accepts connections";
        context
            .timed(Stage::Provision, step, started)
            .await
            .map(Some)
    };
    let (postgres, redis) = futures::try_join!(postgres, redis)?;
    Ok(postgres.into_iter().chain(redis).collect())
}

/// Returns the recipes of all images but the node's.
fn recipes(config: &Config) -> BTreeSet<&str> {
    let needed = &config.backing_services;
    let backing = [
        (needed.postgres.is_some(), POSTGRES),
        (needed.redis.is_some(), REDIS),
    ];
    let backing = backing.into_iter().filter(|(needed, _)| *needed);
    let backing = backing.map(|(_, recipe)| recipe);
    let platform = config.images.keys().map(String::as_str);
    [INGRESS, METRICS_SERVER]
        .into_iter()
        .chain(backing)
        .chain(platform)
        .collect()
}

/// Pulls every image, or builds it if no registry answers. Returns the node's, and all others.
async fn images(
    context: &Context<'_>,
    engine: &Engine,
    target: &KindTarget,
) -> Result<(String, Images), UpError> {
    let begun = Instant::now();
    let workshop = context.workshop();
    let node = images::node(&workshop, &target.kubernetes)
        .map_err(|error| UpError::engine("get the image of a node")(error.to_string()))?;
    let names = [node.as_str()].into_iter().chain(recipes(context.config));
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
        .map_err(|_| UpError::Images {
            names: names.join(", "),
            deadline,
        })?
        .map_err(|error| failed(base::chain(&error)))?;
    if !obtained.split.is_empty() {
        context.note(Stage::Provision, obtained.split.summary());
    }
    context.step(Stage::Provision, "every image is here", begun);
    let mut images: Images = names.iter().cloned().zip(obtained.images).collect();
    match images.remove(&node) {
        Some(node) => Ok((node.to_string(), images)),
        None => Err(failed(format!("{node} is not among them"))),
    }
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
    let of_platform = context.config.images.keys().filter_map(|recipe| {
        Some(ForNodes {
            image: images[recipe].to_string(),
            known_as: context.config.image(recipe, version)?,
        })
    });
    let ours = [INGRESS, METRICS_SERVER].map(|recipe| ForNodes::as_it_is(&images[recipe]));
    let images_of_pods: Vec<ForNodes> = of_platform.chain(ours).collect();
    let progress = |text: &str| context.progress(Stage::Provision, text);
    let loaded = images::load(engine, cluster, &images_of_pods, &progress).await;
    loaded
        .map_err(|error| UpError::engine("load the images into the nodes")(base::chain(&error)))?;
    context.step(Stage::Provision, "the images are on every node", begun);
    Ok(())
}
