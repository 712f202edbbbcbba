//! The objects of one service that is released blue-green, by their names.
//! The chart's README says what each is for.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::ResourceExt;
use kube::api::{ListParams, PatchParams};

use super::FIELD_MANAGER;
use super::colour::{Colour, TRACK};
use super::configuration;
use super::error::BlueGreenError;
use super::retry::retrying;
use crate::cluster::{Cluster, ClusterError};

/// On the two Services of a service that is released blue-green: `active` or `preview`.
pub const ROLE: &str = "trii.co/blue-green";

/// On the live colour's Deployment, `true`: others than the deployer must leave it alone.
pub const LIVE: &str = "trii.co/live";

/// The label that says a pod's version; its environment says what the label says.
pub const VERSION: &str = "app.kubernetes.io/version";

const NAME: &str = "app.kubernetes.io/name";

/// Where the record and the lock of a service are.
pub fn kept_in(service: &str) -> String {
    format!("{service}-blue-green")
}

/// The labels of the record and the lock.
pub fn labels(service: &str) -> BTreeMap<String, String> {
    [
        (NAME, service),
        (
            "app.kubernetes.io/managed-by",
            crate::cluster::apply::FIELD_MANAGER,
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The objects of one service.
#[derive(Clone, Copy)]
pub struct Objects<'a> {
    /// The cluster, and the namespace that they are in.
    pub cluster: &'a Cluster,
    /// The service's name.
    pub service: &'a str,
}

/// One colour as it is now.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub colour: Colour,
    pub deployment: Deployment,
    /// The tag of its image.
    pub version: String,
    /// The pods it is to have.
    pub wanted: i32,
    /// Those that are ready.
    pub ready: i32,
}

/// Both colours, and which of them is live.
#[derive(Clone, Debug)]
pub(super) struct Sides {
    pub live: Side,
    pub idle: Side,
}

impl Sides {
    /// Whether a configuration waits in the idle colour that is not live.
    pub fn reconfigured(&self, service: &str) -> bool {
        configuration::differ(service, &self.live.deployment, &self.idle.deployment)
    }

    /// The side of this colour.
    pub fn of(&self, colour: Colour) -> &Side {
        match self.live.colour == colour {
            true => &self.live,
            false => &self.idle,
        }
    }
}

impl Objects<'_> {
    /// The name of the Service that shows the idle colour.
    pub fn preview(&self) -> String {
        format!("{}-preview", self.service)
    }

    /// The name of a colour's Deployment.
    pub fn deployment(&self, colour: Colour) -> String {
        format!("{}-{colour}", self.service)
    }

    /// What selects a colour's pods, ReplicaSets and Deployment.
    pub fn selector(&self, colour: Colour) -> String {
        format!("{NAME}={},{TRACK}={colour}", self.service)
    }

    pub(super) fn services(&self) -> Api<Service> {
        Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace)
    }

    pub(super) fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace)
    }

    pub(super) fn autoscalers(&self) -> Api<HorizontalPodAutoscaler> {
        Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace)
    }

    /// Both colours as they are now.
    ///
    /// # Errors
    /// What is missing of them, and which it is.
    pub(super) async fn sides(&self) -> Result<Sides, BlueGreenError> {
        let active = self.active().await?;
        let live = colour_of(&active).ok_or_else(|| BlueGreenError::NoLiveColour {
            service: self.service.to_owned(),
            selector: in_words(&selector_of(&active)),
        })?;
        let (live, idle) = (self.side(live).await?, self.side(live.other()).await?);
        Ok(Sides { live, idle })
    }

    /// The colour that traffic goes to; none where the active Service selects neither, or both.
    ///
    /// # Errors
    /// As [`Objects::active`].
    pub(super) async fn live(&self) -> Result<Option<Colour>, BlueGreenError> {
        Ok(colour_of(&self.active().await?))
    }

    /// The active Service.
    ///
    /// # Errors
    /// That there is none, or that it is not one of two.
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
        let api = self.services();
        let role = ListParams::default().labels(&format!("{ROLE}=active"));
        let listed = retrying("list Services", async || api.list(&role).await).await?;
        let known: Vec<String> = listed.iter().map(ResourceExt::name_any).collect();
        Ok(BlueGreenError::unknown_service(
            self.service,
            &self.cluster.namespace,
            &known,
        ))
    }

    /// A colour as it is now, live or not.
    pub(super) async fn side(&self, colour: Colour) -> Result<Side, BlueGreenError> {
        let (api, name) = (self.deployments(), self.deployment(colour));
        let found = retrying("get a Deployment", async || api.get_opt(&name).await).await?;
        let deployment = found.ok_or_else(|| BlueGreenError::NoDeployment {
            deployment: name.clone(),
            namespace: self.cluster.namespace.clone(),
        })?;
        let image = self.container(&deployment)?.image.clone();
        let version = tag(&image.unwrap_or_default()).map(|(_, tag)| tag.to_owned());
        let status = deployment.status.clone().unwrap_or_default();
        Ok(Side {
            colour,
            version: version.ok_or(BlueGreenError::NoTag { deployment: name })?,
            // Kubernetes' own default.
            wanted: deployment.spec.replicas.unwrap_or(1),
            ready: status.ready_replicas.unwrap_or(0),
            deployment,
        })
    }

    /// The service's own container: a sidecar may stand beside it.
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

    /// The pods of a colour that are not on their way out.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn pods(&self, colour: Colour) -> Result<Vec<Pod>, ClusterError> {
        let pods = self.all_pods(colour).await?.into_iter();
        Ok(pods
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect())
    }

    /// The pods of a colour, those on their way out included.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn all_pods(&self, colour: Colour) -> Result<Vec<Pod>, ClusterError> {
        let api: Api<Pod> = Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace);
        let selector = ListParams::default().labels(&self.selector(colour));
        let listed = retrying("list Pods", async || api.list(&selector).await).await?;
        Ok(listed.items)
    }

    /// What scales a colour, if anything does.
    ///
    /// # Errors
    /// What the API server said.
    pub(super) async fn autoscaler(
        &self,
        colour: Colour,
    ) -> Result<Option<HorizontalPodAutoscaler>, ClusterError> {
        let (api, all) = (self.autoscalers(), ListParams::default());
        let listed = retrying("list HorizontalPodAutoscalers", async || {
            api.list(&all).await
        });
        let name = self.deployment(colour);
        Ok(listed.await?.items.into_iter().find(|it| {
            let target = &it.spec.scale_target_ref;
            target.kind == "Deployment" && target.name == name
        }))
    }

    /// The names of the pods behind a Service, with whether each is ready.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn endpoints(&self, service: &str) -> Result<Vec<(String, bool)>, ClusterError> {
        let api: Api<EndpointSlice> =
            Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace);
        let its = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let listed = retrying("list EndpointSlices", async || api.list(&its).await).await?;
        let endpoints = listed
            .items
            .into_iter()
            .flat_map(|slice| slice.endpoints.unwrap_or_default());
        Ok(endpoints
            .map(|endpoint| {
                let pod = endpoint.target_ref.and_then(|it| it.name);
                // "nil should be interpreted as true".
                let ready = endpoint.conditions.and_then(|it| it.ready).unwrap_or(true);
                (pod.unwrap_or_default(), ready)
            })
            .collect())
    }

    /// How a person looks at it.
    pub fn kubectl(&self, what: &str) -> String {
        format!("{} {what}", self.cluster.kubectl())
    }
}

/// So that the cluster knows who changed what, and lets us.
pub fn as_deployer() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// What a Service selects.
pub(super) fn selector_of(service: &Service) -> BTreeMap<String, String> {
    let spec = service.spec.as_ref();
    spec.and_then(|it| it.selector.clone()).unwrap_or_default()
}

/// The colour that a Service's selector names.
pub(super) fn colour_of(service: &Service) -> Option<Colour> {
    Colour::of(&selector_of(service))
}

/// A selector as kubectl writes it.
pub(super) fn in_words(selector: &BTreeMap<String, String>) -> String {
    let pairs = selector.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

/// The repository and the tag of an image; none where it is named by its digest, or by
/// neither.
pub(crate) fn tag(image: &str) -> Option<(&str, &str)> {
    let (repository, tag) = image.rsplit_once(':')?;
    // A colon before the last slash is a port's.
    (!tag.contains('/') && !image.contains('@')).then_some((repository, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_follows_the_last_colon() {
        assert_eq!(
            tag("trii/platform:v2.1.0"),
            Some(("trii/platform", "v2.1.0"))
        );
        assert_eq!(tag("host:5000/a/b:v1"), Some(("host:5000/a/b", "v1")));
        assert_eq!(tag("host:5000/a/b"), None);
        assert_eq!(tag("a/b"), None);
        assert_eq!(tag("a/b:v1@sha256:00"), None);
    }
}
