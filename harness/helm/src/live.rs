//! The live colours of blue-green services. Each has its own version, which no release of the
//! platform changes.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service as ServiceObject;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::Value;

use blue_green::{Colour, configuration, objects};
use kubernetes::workloads::is_of_release;
use kubernetes::{Cluster, ClusterError};

/// The live colour of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The service.
    pub service: String,
    /// The colour that is live.
    pub colour: Colour,
    /// The tag of its image.
    pub version: String,
}

impl Live {
    /// Returns the name of the live Deployment.
    pub fn deployment(&self) -> String {
        format!("{}-{}", self.service, self.colour)
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (service, version) = (&self.service, &self.version);
        write!(f, "{service} {version} ({} is live)", self.colour)
    }
}

/// Returns the live colour of each service in the namespace whose Service selects one.
///
/// # Errors
/// The API server's error.
pub async fn read(cluster: &Cluster) -> Result<Vec<Live>, ClusterError> {
    Ok(of_services(&objects(cluster).await?).collect())
}

/// As [`read`], for the services that helm installed with the release `name`.
///
/// # Errors
/// The API server's error.
pub async fn of_release(cluster: &Cluster, name: &str) -> Result<Vec<Live>, ClusterError> {
    Ok(of_services(&objects_of(cluster, name).await?).collect())
}

/// As [`of_release`], for services whose idle colour has another configuration than the live one.
///
/// # Errors
/// The API server's error.
pub async fn reconfigured(cluster: &Cluster, name: &str) -> Result<Vec<Live>, ClusterError> {
    let objects = objects_of(cluster, name).await?;
    let (_, deployments) = &objects;
    let waits = |live: &Live| {
        let of = |colour| {
            let name = format!("{}-{colour}", live.service);
            deployments.iter().find(|it| it.name_any() == name)
        };
        let both = of(live.colour).zip(of(live.colour.other()));
        both.is_some_and(|(one, other)| configuration::differ(&live.service, one, other))
    };
    Ok(of_services(&objects).filter(waits).collect())
}

type Objects = (Vec<ServiceObject>, Vec<Deployment>);

/// The Services and the Deployments of the release `name`.
async fn objects_of(cluster: &Cluster, name: &str) -> Result<Objects, ClusterError> {
    let (mut services, mut deployments) = objects(cluster).await?;
    services.retain(|it| is_of_release(it, name));
    deployments.retain(|it| is_of_release(it, name));
    Ok((services, deployments))
}

async fn objects(cluster: &Cluster) -> Result<Objects, ClusterError> {
    let all = ListParams::default();
    let services = cluster.api::<ServiceObject>().list(&all).await;
    let services = services.map_err(|error| ClusterError::of("list Services", error))?;
    let deployments = cluster.api::<Deployment>().list(&all).await;
    let deployments = deployments.map_err(|error| ClusterError::of("list Deployments", error))?;
    Ok((services.items, deployments.items))
}

fn of_services((services, deployments): &Objects) -> impl Iterator<Item = Live> {
    services.iter().filter_map(|it| of_service(it, deployments))
}

fn of_service(object: &ServiceObject, deployments: &[Deployment]) -> Option<Live> {
    let service = object.name_any();
    let selector = object.spec.as_ref()?.selector.as_ref()?;
    let colour = Colour::of(selector)?;
    let name = format!("{service}-{colour}");
    let deployment = deployments.iter().find(|it| it.name_any() == name)?;
    Some(Live {
        version: tag(deployment, &service)?,
        service,
        colour,
    })
}

/// Returns the image tag of the container with the service's name.
fn tag(deployment: &Deployment, service: &str) -> Option<String> {
    let containers = &deployment.spec.template.spec.as_ref()?.containers;
    let container = containers.iter().find(|it| it.name == service)?;
    let (_, tag) = objects::tag(container.image.as_ref()?)?;
    Some(tag.to_owned())
}

/// Adds the live tags to `overrides` that contain none: the chart refuses to change a live colour.
pub(super) fn keep_versions(overrides: &Value, live: &[Live]) -> Value {
    let mut overrides = overrides.clone();
    for live in live {
        let tag = &mut overrides["services"][live.service.as_str()]["image"]["tag"];
        if tag.is_null() {
            *tag = Value::from(live.version.as_str());
        }
    }
    overrides
}

/// Returns the versions by service.
pub fn versions(live: Vec<Live>) -> BTreeMap<String, String> {
    live.into_iter()
        .map(|it| (it.service, it.version))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use blue_green::colour::TRACK;
    use kubernetes::mock::MockServer;

    /// helm's annotation.
    fn of_release() -> Value {
        json!({"meta.helm.sh/release-name": "platform"})
    }

    /// A cluster with both colours of market-data, whose Service selects `track`.
    fn cluster(track: &'static str) -> MockServer {
        let list = |items: Vec<Value>| {
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
            (200, list)
        };
        let deployment = |name: &str, tag: &str| {
            let container =
                json!({"name": "market-data-service", "image": format!("host:5000/trii/md:{tag}")});
            json!({"metadata": {"name": name, "annotations": of_release()},
                "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}}})
        };
        let service = move |name: &str| json!({"metadata": {"name": name, "annotations": of_release()}, "spec": {"selector": {TRACK: track}}});
        MockServer::new(move |request| match request.path.rsplit('/').next() {
            Some("services") => list(vec![
                service("market-data-service"),
                service("market-data-service-preview"),
            ]),
            _ => list(vec![
                deployment("market-data-service-blue", "v1"),
                deployment("market-data-service-green", "v2"),
                deployment("market-data-service", "v3"),
            ]),
        })
    }

    #[tokio::test]
    async fn the_colour_that_the_service_selects_is_live() {
        for (track, version) in [("blue", "v1"), ("green", "v2")] {
            let server = cluster(track);
            let cluster = server.cluster("trii");
            let live = read(&cluster).await.unwrap();
            assert_eq!(super::of_release(&cluster, "platform").await.unwrap(), live);
            assert_eq!(super::of_release(&cluster, "other").await.unwrap(), []);
            assert_eq!(live.len(), 1);
            assert_eq!(live[0].deployment(), format!("market-data-service-{track}"));
            assert_eq!(live[0].version, version);
        }
        let stable = read(&cluster("stable").cluster("trii")).await;
        assert_eq!(stable.unwrap(), []);
    }

    #[test]
    fn a_live_colour_keeps_its_tag_unless_the_overrides_have_another() {
        let live = |service: &str, version: &str| Live {
            service: service.into(),
            colour: Colour::Blue,
            version: version.into(),
        };
        let live = [live("market-data-service", "v1"), live("api-gateway", "v1")];
        let overrides = json!({
            "global": {"imageTag": "v2"},
            "services": {
                "market-data-service": {"env": {"LOG_LEVEL": "DEBUG"}},
                "api-gateway": {"image": {"tag": "v3"}},
            },
        });
        assert_eq!(
            keep_versions(&overrides, &live),
            json!({
                "global": {"imageTag": "v2"},
                "services": {
                    "market-data-service": {"env": {"LOG_LEVEL": "DEBUG"}, "image": {"tag": "v1"}},
                    "api-gateway": {"image": {"tag": "v3"}},
                },
            })
        );
        assert_eq!(keep_versions(&json!({}), &[]), json!({}));
    }
}
