//! What is live of the services that are released blue-green: each has a version of its own,
//! which no release of the platform moves.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service as ServiceObject;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::selector_of;
use crate::blue_green::{Colour, configuration, objects};
use crate::cluster::{Cluster, ClusterError};
use crate::service::Service;

/// The live colour of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Which.
    pub service: Service,
    /// Which is live.
    pub colour: Colour,
    /// The tag of the image that it runs.
    pub version: String,
}

impl Live {
    /// The Deployment that serves.
    pub fn deployment(&self) -> String {
        format!("{}-{}", self.service, self.colour)
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Live {
            service,
            colour,
            version,
        } = self;
        write!(f, "{service} {version} ({colour} is live)")
    }
}

/// What is live of each service of the release `name` whose Service selects a colour.
///
/// # Errors
/// What the API server said.
pub async fn look(cluster: &Cluster, name: &str) -> Result<Vec<Live>, ClusterError> {
    let (services, deployments) = objects_of(cluster, name).await?;
    let live = services.iter();
    Ok(live.filter_map(|it| of_service(it, &deployments)).collect())
}

/// The same, of those whose idle colour has another configuration than the live one.
///
/// # Errors
/// What the API server said.
pub async fn reconfigured(cluster: &Cluster, name: &str) -> Result<Vec<Live>, ClusterError> {
    let (services, deployments) = objects_of(cluster, name).await?;
    let live = services.iter();
    let live = live.filter_map(|it| of_service(it, &deployments));
    let waits = |live: &Live| {
        let of = |colour| {
            let name = format!("{}-{colour}", live.service);
            deployments.iter().find(|it| it.name_any() == name)
        };
        let (live_one, idle) = (of(live.colour), of(live.colour.other()));
        let both = live_one.zip(idle);
        both.is_some_and(|(one, other)| configuration::differ(live.service.name(), one, other))
    };
    Ok(live.filter(waits).collect())
}

/// The Services and the Deployments of the release `name`.
async fn objects_of(
    cluster: &Cluster,
    name: &str,
) -> Result<(Vec<ServiceObject>, Vec<Deployment>), ClusterError> {
    let (client, namespace) = (cluster.client(), &cluster.namespace);
    let services: Api<ServiceObject> = Api::namespaced(client.clone(), namespace);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let of_release = ListParams::default().labels(&selector_of(name));
    let services = services.list(&of_release).await;
    let services = services.map_err(|error| ClusterError::of("list Services", error))?;
    let deployments = deployments.list(&of_release).await;
    let deployments = deployments.map_err(|error| ClusterError::of("list Deployments", error))?;
    Ok((services.items, deployments.items))
}

fn of_service(object: &ServiceObject, deployments: &[Deployment]) -> Option<Live> {
    let service: Service = object.name_any().parse().ok()?;
    let selector = object.spec.as_ref()?.selector.as_ref()?;
    let colour = Colour::of(selector)?;
    let name = format!("{service}-{colour}");
    let deployment = deployments.iter().find(|it| it.name_any() == name)?;
    Some(Live {
        service,
        colour,
        version: tag(deployment, service)?,
    })
}

/// Of the container that is called as the service is.
fn tag(deployment: &Deployment, service: Service) -> Option<String> {
    let containers = &deployment.spec.template.spec.as_ref()?.containers;
    let container = containers.iter().find(|it| it.name == service.name())?;
    let (_, tag) = objects::tag(container.image.as_ref()?)?;
    Some(tag.to_owned())
}

/// `overrides` of the chart's values, with the tags of what is live where they name none:
/// the chart refuses to move a live colour.
pub(super) fn left_alone(overrides: &Value, live: &[Live]) -> Value {
    let mut overrides = overrides.clone();
    for Live {
        service, version, ..
    } in live
    {
        let tag = &mut overrides["services"][service.name()]["image"]["tag"];
        if tag.is_null() {
            *tag = Value::from(version.as_str());
        }
    }
    overrides
}

/// The versions that differ from the platform's, by service.
pub fn versions(live: Vec<Live>) -> BTreeMap<Service, String> {
    live.into_iter()
        .map(|it| (it.service, it.version))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::blue_green::colour::TRACK;
    use crate::cluster::mock::Server;

    /// A cluster with both colours of market-data, whose Service selects `track`.
    fn cluster(track: &'static str) -> Server {
        let list = |items: Vec<Value>| {
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
            (200, list)
        };
        let deployment = |name: &str, tag: &str| {
            let container =
                json!({"name": "market-data-service", "image": format!("host:5000/trii/md:{tag}")});
            json!({"metadata": {"name": name},
                "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}}})
        };
        Server::new(move |request| {
            match request.path.rsplit('/').next() {
            Some("services") => list(
                ["market-data-service", "market-data-service-preview"]
                    .map(|name| json!({"metadata": {"name": name}, "spec": {"selector": {TRACK: track}}}))
                    .into(),
            ),
            _ => list(vec![
                deployment("market-data-service-blue", "v1"),
                deployment("market-data-service-green", "v2"),
                deployment("market-data-service", "v3"),
            ]),
        }
        })
    }

    #[tokio::test]
    async fn what_the_service_selects_is_live() {
        for (track, version) in [("blue", "v1"), ("green", "v2")] {
            let server = cluster(track);
            let [live] = &look(&server.cluster("trii"), "trii-platform")
                .await
                .unwrap()[..]
            else {
                panic!("one service");
            };
            assert_eq!(live.deployment(), format!("market-data-service-{track}"));
            assert_eq!(live.version, version);
        }
        let stable = look(&cluster("stable").cluster("trii"), "trii-platform").await;
        assert_eq!(stable.unwrap(), []);
    }

    #[test]
    fn a_live_colour_keeps_its_tag_and_one_that_is_named_is_the_charts_to_refuse() {
        let live = |service, version: &str| Live {
            service,
            colour: Colour::Blue,
            version: version.into(),
        };
        let live = [
            live(Service::MarketDataService, "v1"),
            live(Service::ApiGateway, "v1"),
        ];
        let overrides = json!({
            "global": {"imageTag": "v2"},
            "services": {
                "market-data-service": {"env": {"LOG_LEVEL": "DEBUG"}},
                "api-gateway": {"image": {"tag": "v3"}},
            },
        });
        assert_eq!(
            left_alone(&overrides, &live),
            json!({
                "global": {"imageTag": "v2"},
                "services": {
                    "market-data-service": {"env": {"LOG_LEVEL": "DEBUG"}, "image": {"tag": "v1"}},
                    "api-gateway": {"image": {"tag": "v3"}},
                },
            })
        );
        assert_eq!(left_alone(&json!({}), &[]), json!({}));
    }
}
