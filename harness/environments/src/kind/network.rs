//! The network that an environment's nodes and containers share.

use bollard::models::{NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;

use crate::bring_up::{Context, UpError};
use base::ledger::Resource;
use machine::containers::with_timeout;
use machine::engine::Engine;

/// A network that exists.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The range of its IPv4 addresses, as a CIDR.
    pub subnet: String,
}

/// Creates the network. It is removed with the environment.
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
    let ranges = network.ipam.and_then(|ipam| ipam.config).into_iter();
    let mut subnets = ranges.flatten().filter_map(|range| range.subnet);
    let subnet = subnets
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
    let network = with_timeout(&engine, created).await?;
    network.map_err(|error| base::chain(&error))
}
