//! The objects of one service that is released blue-green, by their names. The chart's README
//! describes them.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    Container, EndpointAddress, Endpoints, Pod, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::colour::{Colour, TRACK};
use super::error::BlueGreenError;
use super::naming::NAME;
use super::retry::retrying;
use kubernetes::{Cluster, ClusterError};

/// A label of the two Services of a service that is released blue-green: `active` or `preview`.
pub const ROLE: &str = "trii.co/blue-green";

/// An annotation of the live colour's Deployment. `true`: only the deployer may change it.
pub const LIVE: &str = "trii.co/live";

/// The label with a pod's version; its environment has the same value.
pub const VERSION: &str = "app.kubernetes.io/version";

/// The objects of one service.
#[derive(Clone, Copy)]
pub struct ServiceObjects<'a> {
    /// The cluster, and the namespace of the objects.
    pub cluster: &'a Cluster,
    /// The service's name.
    pub service: &'a str,
}

/// A kind of object in a namespace.
pub(super) trait Namespaced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}

impl<K> Namespaced for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
{
}

/// The current status of one colour.
#[derive(Clone, Debug, Serialize)]
pub struct ColourStatus {
    /// The colour.
    pub colour: Colour,
    #[serde(skip)]
    pub(super) deployment: Deployment,
    /// The tag of its image.
    pub version: String,
    /// The desired number of pods.
    pub wanted: i32,
    /// The number of ready pods.
    pub ready: i32,
}

/// Both colours, and which of them is live.
#[derive(Clone, Debug)]
pub(super) struct BothColours {
    pub live: ColourStatus,
    pub idle: ColourStatus,
}

impl ColourStatus {
    /// Returns the desired or the current number of pods, whichever is greater.
    pub(super) fn pods(&self) -> i32 {
        let status = self.deployment.status.as_ref();
        let running = status.and_then(|it| it.replicas).unwrap_or(0);
        self.wanted.max(running)
    }
}

impl ServiceObjects<'_> {
    /// Returns the name of the Service that selects the idle colour.
    pub fn preview(&self) -> String {
        format!("{}-preview", self.service)
    }

    /// Returns the name of a colour's Deployment.
    pub fn deployment(&self, colour: Colour) -> String {
        format!("{}-{colour}", self.service)
    }

    /// Returns the label selector of a colour's pods, ReplicaSets and Deployment.
    pub fn selector(&self, colour: Colour) -> String {
        format!("{NAME}={},{TRACK}={colour}", self.service)
    }

    pub(super) fn services(&self) -> Api<Service> {
        self.cluster.api()
    }

    pub(super) fn deployments(&self) -> Api<Deployment> {
        self.cluster.api()
    }

    /// Lists the objects of one kind that `params` select.
    pub(super) async fn list<K: Namespaced>(
        &self,
        params: &ListParams,
    ) -> Result<Vec<K>, ClusterError> {
        let api: Api<K> = self.cluster.api();
        let what = format!("list {}", K::plural(&()));
        let listed = retrying(&what, async || api.list(params).await);
        Ok(listed.await?.items)
    }

    /// Reads both colours.
    ///
    /// # Errors
    /// The missing or wrong object; the API server's error.
    pub(super) async fn colours(&self) -> Result<BothColours, BlueGreenError> {
        let active = self.active().await?;
        let live = colour_of(&active).ok_or_else(|| BlueGreenError::NoLiveColour {
            service: self.service.to_owned(),
            selector: selector_text(&selector_of(&active)),
        })?;
        let (live, idle) = (self.colour(live).await?, self.colour(live.other()).await?);
        Ok(BothColours { live, idle })
    }

    /// Reads the colour that has the traffic; none if the active Service selects neither, or both.
    ///
    /// # Errors
    /// As [`ServiceObjects::active`].
    pub(super) async fn live(&self) -> Result<Option<Colour>, BlueGreenError> {
        Ok(colour_of(&self.active().await?))
    }

    /// Reads the active Service.
    ///
    /// # Errors
    /// There is none, or it is not released blue-green; the API server's error.
    pub async fn active(&self) -> Result<Service, BlueGreenError> {
        let api = self.services();
        let found = retrying("get the active Service", async || {
            api.get_opt(self.service).await
        });
        match found.await? {
            Some(found) if found.labels().get(ROLE).is_some_and(|it| it == "active") => Ok(found),
            Some(_) => Err(BlueGreenError::NotBlueGreen {
                service: self.service.to_owned(),
            }),
            None => Err(self.unknown().await?),
        }
    }

    async fn unknown(&self) -> Result<BlueGreenError, BlueGreenError> {
        let role = ListParams::default().labels(&format!("{ROLE}=active"));
        let listed: Vec<Service> = self.list(&role).await?;
        let known: Vec<String> = listed.iter().map(ResourceExt::name_any).collect();
        Ok(BlueGreenError::unknown_service(
            self.service,
            &self.cluster.namespace,
            &known,
        ))
    }

    /// Reads the status of a colour.
    pub(super) async fn colour(&self, colour: Colour) -> Result<ColourStatus, BlueGreenError> {
        let (api, name) = (self.deployments(), self.deployment(colour));
        let found = retrying("get a Deployment", async || api.get_opt(&name).await).await?;
        let deployment = found.ok_or_else(|| BlueGreenError::NoDeployment {
            deployment: name.clone(),
            namespace: self.cluster.namespace.clone(),
        })?;
        let image = self.container(&deployment)?.image.clone();
        let version = tag(&image.unwrap_or_default()).map(|(_, tag)| tag.to_owned());
        let status = deployment.status.clone().unwrap_or_default();
        Ok(ColourStatus {
            colour,
            version: version.ok_or(BlueGreenError::NoTag { deployment: name })?,
            // Kubernetes' own default.
            wanted: deployment.spec.replicas.unwrap_or(1),
            ready: status.ready_replicas.unwrap_or(0),
            deployment,
        })
    }

    /// Returns the service's own container: there may be sidecars.
    pub(super) fn container<'d>(
        &self,
        deployment: &'d Deployment,
    ) -> Result<&'d Container, BlueGreenError> {
        let pod = deployment.spec.template.spec.as_ref();
        let containers = pod.map(|it| it.containers.as_slice()).unwrap_or_default();
        let named = containers.iter().find(|it| it.name == self.service);
        named.ok_or_else(|| BlueGreenError::NoContainer {
            deployment: deployment.name_any(),
            container: self.service.to_owned(),
            there: containers.iter().map(|it| it.name.clone()).collect(),
        })
    }

    /// Lists the pods of a colour that are not terminating.
    ///
    /// # Errors
    /// The API server's error.
    pub async fn pods(&self, colour: Colour) -> Result<Vec<Pod>, ClusterError> {
        let mut pods = self.all_pods(colour).await?;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(pods)
    }

    /// Lists the pods of a colour, with those that are terminating.
    ///
    /// # Errors
    /// The API server's error.
    pub async fn all_pods(&self, colour: Colour) -> Result<Vec<Pod>, ClusterError> {
        let of_colour = ListParams::default().labels(&self.selector(colour));
        self.list(&of_colour).await
    }

    /// Reads the autoscaler of a colour, if it has one.
    ///
    /// # Errors
    /// The API server's error.
    pub(super) async fn autoscaler(
        &self,
        colour: Colour,
    ) -> Result<Option<HorizontalPodAutoscaler>, ClusterError> {
        let all: Vec<HorizontalPodAutoscaler> = self.list(&ListParams::default()).await?;
        let name = self.deployment(colour);
        Ok(all.into_iter().find(|it| {
            let target = &it.spec.scale_target_ref;
            target.kind == "Deployment" && target.name == name
        }))
    }

    /// Lists the names of the pods behind a Service, each with whether it is ready.
    ///
    /// # Errors
    /// The API server's error.
    pub async fn endpoints(&self, service: &str) -> Result<Vec<(String, bool)>, ClusterError> {
        let label = format!("kubernetes.io/service-name={service}");
        let slices: Vec<EndpointSlice> = self.list(&ListParams::default().labels(&label)).await?;
        let endpoints = slices.into_iter();
        let endpoints = endpoints.flat_map(|slice| slice.endpoints.unwrap_or_default());
        Ok(endpoints
            .map(|endpoint| {
                let pod = endpoint.target_ref.and_then(|it| it.name);
                // "nil should be interpreted as true".
                let ready = endpoint.conditions.and_then(|it| it.ready).unwrap_or(true);
                (pod.unwrap_or_default(), ready)
            })
            .collect())
    }

    /// Lists the same of the Endpoints, to which the API server's proxy sends the requests to a
    /// Service. They follow the EndpointSlices.
    ///
    /// # Errors
    /// The API server's error.
    pub(super) async fn proxied_endpoints(
        &self,
        service: &str,
    ) -> Result<Vec<(String, bool)>, ClusterError> {
        let api: Api<Endpoints> = self.cluster.api();
        let found = retrying("read the endpoints", async || api.get_opt(service).await).await?;
        let subsets = found.and_then(|it| it.subsets).unwrap_or_default();
        let endpoints = subsets.into_iter().flat_map(|subset| {
            let ready = subset.addresses.unwrap_or_default().into_iter();
            let others = subset.not_ready_addresses.unwrap_or_default().into_iter();
            let others = others.map(|it| (it, false));
            ready.map(|it| (it, true)).chain(others)
        });
        let pod = |address: EndpointAddress| address.target_ref.and_then(|it| it.name);
        Ok(endpoints
            .map(|(address, is_ready)| (pod(address).unwrap_or_default(), is_ready))
            .collect())
    }

    /// Returns a kubectl command for messages.
    pub fn kubectl(&self, what: &str) -> String {
        format!("{} {what}", self.cluster.kubectl())
    }
}

pub(super) fn selector_of(service: &Service) -> BTreeMap<String, String> {
    let spec = service.spec.as_ref();
    spec.and_then(|it| it.selector.clone()).unwrap_or_default()
}

/// Returns the colour in a Service's selector.
pub(super) fn colour_of(service: &Service) -> Option<Colour> {
    Colour::of(&selector_of(service))
}

/// Formats a selector as kubectl does.
pub(super) fn selector_text(selector: &BTreeMap<String, String>) -> String {
    let pairs = selector.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

/// Returns the port of a Service for requests: `http`, else the first.
pub fn request_port(spec: &ServiceSpec) -> Option<&ServicePort> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let http = ports.iter().find(|it| it.name.as_deref() == Some("http"));
    http.or(ports.first())
}

/// Returns the repository and the tag of an image; none if it has a digest, or no tag.
pub fn tag(image: &str) -> Option<(&str, &str)> {
    let (repository, tag) = image.rsplit_once(':')?;
    // A colon before the last slash belongs to a port.
    (!tag.contains('/') && !image.contains('@')).then_some((repository, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_follows_the_last_colon() {
        for (image, expected) in [
            ("trii/platform:v2.1.0", Some(("trii/platform", "v2.1.0"))),
            ("host:5000/a/b:v1", Some(("host:5000/a/b", "v1"))),
            ("host:5000/a/b", None),
            ("a/b", None),
            ("a/b:v1@sha256:00", None),
        ] {
            assert_eq!(tag(image), expected, "{image}");
        }
    }
}
