//! The network that an environment's nodes and containers share.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::{InspectNetworkOptions, ListContainersOptionsBuilder};

use crate::bring_up::containers::{self, ENGINE_PATIENCE, refusal, with_patience};
use crate::bring_up::{Context, UpError};
use crate::engine::Engine;
use crate::ledger::Resource;
use crate::wait::{self, Observation};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A network that is there.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its IPv4 addresses, as a CIDR.
    pub subnet: String,
}

/// Creates the network; it ends with the environment.
pub async fn create(
    context: &Context<'_>,
    engine: &Engine,
    name: &str,
) -> Result<Network, UpError> {
    let failed = |reason| UpError::Engine {
        what: format!("create the network {name}"),
        reason,
    };
    let resource = Resource::Network {
        name: name.to_owned(),
        engine: engine.host.clone(),
    };
    context.owned.adopt(resource, engine).await?;
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        labels: Some(context.labels().into_iter().collect()),
        ..NetworkCreateRequest::default()
    };
    let created = create_and_inspect(engine.clone(), request);
    let network = context.owned.see_through(created).await.map_err(failed)?;
    let mut ranges = network
        .ipam
        .and_then(|ipam| ipam.config)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|range| range.subnet);
    let subnet = ranges
        .find(|subnet| !subnet.contains(':'))
        .ok_or_else(|| failed("the engine gave it no IPv4 addresses".into()))?;
    Ok(Network {
        name: name.to_owned(),
        subnet,
    })
}

async fn create_and_inspect(
    engine: Engine,
    request: NetworkCreateRequest,
) -> Result<NetworkInspect, String> {
    let created = async {
        let name = request.name.clone();
        engine.client().create_network(request).await?;
        let options = None::<InspectNetworkOptions>;
        engine.client().inspect_network(&name, options).await
    };
    let network = with_patience(&engine, created).await?;
    network.map_err(|error| crate::chain(&error))
}

/// Removes the network, and all containers that are on it; one that is not there is removed.
pub async fn remove(engine: &Engine, name: &str) -> Result<(), String> {
    let removed = wait::until(
        "the network is gone",
        ENGINE_PATIENCE,
        LOOK_EVERY,
        async || {
            if let Err(reason) = containers_gone(engine, "network", name).await {
                return Observation::NotYet(reason);
            }
            match engine.client().remove_network(name).await {
                Ok(()) => Observation::Ready(()),
                Err(error) => match refusal(&error) {
                    Some(404) => Observation::Ready(()),
                    // Something is on it still, or just now.
                    Some(403 | 409) => Observation::NotYet(crate::chain(&error)),
                    _ => Observation::Hopeless(crate::chain(&error)),
                },
            }
        },
    );
    let removed = with_patience(engine, removed).await?;
    removed.map_err(|error| error.to_string())
}

/// Removes every container that the engine's filter names, running or not.
pub(super) async fn containers_gone(
    engine: &Engine,
    filter: &str,
    value: &str,
) -> Result<(), String> {
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&HashMap::from([(filter, vec![value])]))
        .build();
    let listed = engine.client().list_containers(Some(options)).await;
    let listed = listed.map_err(|error| crate::chain(&error))?;
    let ids = listed.into_iter().filter_map(|container| container.id);
    let removals = ids.map(async |id| containers::remove(engine, &id).await);
    futures::future::try_join_all(removals).await?;
    Ok(())
}
