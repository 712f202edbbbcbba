//! Removes the resources of an environment from the engine: containers, kind clusters, networks.

use std::time::Duration;

use crate::containers::{
    self, ENGINE_TIMEOUT, LABEL_KIND_CLUSTER, NODE_TIMEOUT, refusal, with_timeout, within,
};
use crate::engine::Engine;
use base::ledger::Resource;
use base::process::search;
use base::wait::{self, Observation};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Removes a resource from the engine. A resource that the engine does not have counts as removed.
pub async fn remove(engine: &Engine, resource: &Resource) -> Result<(), String> {
    match resource {
        Resource::Container { name, .. } => containers::remove(engine, name).await,
        Resource::Cluster { name, .. } => remove_cluster(engine, name).await,
        Resource::Network { name, .. } => remove_network(engine, name).await,
        Resource::Directory { .. } | Resource::Process { .. } => Ok(()),
    }
}

/// Returns whether the engine reports that it has no such resource. A cluster is never absent: its
/// removal waits for processes that still create a node.
pub async fn is_absent(engine: &Engine, resource: &Resource) -> bool {
    let docker = engine.client();
    let inspected = match resource {
        Resource::Container { name, .. } => docker.inspect_container(name, None).await.map(drop),
        Resource::Network { name, .. } => docker.inspect_network(name, None).await.map(drop),
        Resource::Cluster { .. } | Resource::Directory { .. } | Resource::Process { .. } => Ok(()),
    };
    inspected.is_err_and(|error| refusal(&error) == Some(404))
}

/// Removes every node of the cluster with its volumes.
///
/// Uses the engine alone: it needs no `kind` and changes no kubeconfig. A `docker run` may outlive
/// kind and create a node after the others are removed, so this waits for its exit. Killing it
/// does not help: the engine continues without it.
async fn remove_cluster(engine: &Engine, name: &str) -> Result<(), String> {
    let label = format!("{LABEL_KIND_CLUSTER}={name}");
    let removed = wait::until(
        "the cluster's nodes are gone",
        NODE_TIMEOUT,
        LOOK_EVERY,
        async || {
            if let Some(creator) = search::with_argument(&label).first() {
                return Observation::NotYet(format!("{creator} still creates one"));
            }
            match containers_gone(engine, "label", &label).await {
                Ok(()) => Observation::Ready(()),
                Err(reason) => Observation::NotYet(reason),
            }
        },
    );
    let removed = within(NODE_TIMEOUT, engine, removed).await?;
    removed.map_err(|error| error.to_string())
}

/// Returns the names of the containers that are this cluster's nodes, in any state.
///
/// # Errors
/// The engine's error.
pub async fn nodes(engine: &Engine, name: &str) -> Result<Vec<String>, String> {
    let label = format!("{LABEL_KIND_CLUSTER}={name}");
    let listed = containers::matching(engine, ("label", &label), true);
    let listed = with_timeout(engine, listed).await?;
    let listed = listed.map_err(|error| base::chain(&error))?;
    Ok(listed.iter().filter_map(containers::name_of).collect())
}

/// Removes the network and all containers in it.
async fn remove_network(engine: &Engine, name: &str) -> Result<(), String> {
    let removed = wait::until(
        "the network no longer exists",
        ENGINE_TIMEOUT,
        LOOK_EVERY,
        async || {
            if let Err(reason) = containers_gone(engine, "network", name).await {
                return Observation::NotYet(reason);
            }
            match engine.client().remove_network(name).await {
                Ok(()) => Observation::Ready(()),
                Err(error) => match refusal(&error) {
                    Some(404) => Observation::Ready(()),
                    // A container still uses it, or joined it just now.
                    Some(403 | 409) => Observation::NotYet(base::chain(&error)),
                    _ => Observation::Failed(base::chain(&error)),
                },
            }
        },
    );
    let removed = with_timeout(engine, removed).await?;
    removed.map_err(|error| error.to_string())
}

/// Removes every container that matches the engine's filter, running or not.
async fn containers_gone(engine: &Engine, filter: &str, value: &str) -> Result<(), String> {
    let listed = containers::matching(engine, (filter, value), true).await;
    let listed = listed.map_err(|error| base::chain(&error))?;
    let ids = listed.into_iter().filter_map(|container| container.id);
    let removals = ids.map(async |id| containers::remove(engine, &id).await);
    futures::future::try_join_all(removals).await.map(drop)
}
