//! Where one of them releases: pods in a namespace, and the Service that users reach them by.

use std::time::Duration;

use harness::blue_green::objects::VERSION;
use harness::cluster::Cluster;
use harness::wait::{self, Observation};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};

use super::SERVICE;
use crate::bench::error::BenchError;

/// For a release to come to its switch.
const SWITCH: Duration = Duration::from_secs(300);
/// A fault is planted, and a deployer killed, so long after traffic was moved at most.
const SWITCH_LOOK_EVERY: Duration = Duration::from_millis(50);

/// For pods to come or go, their grace period included.
const REST: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where one of them releases.
pub struct Site {
    /// The cluster, and the namespace.
    pub cluster: Cluster,
    /// The label whose value the active Service selects.
    pub label: &'static str,
    /// What users ask.
    pub path: &'static str,
}

/// Who is there, and who has traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    /// The version that the active Service selects; none where it selects no pod.
    pub version: Option<String>,
    /// How many pods it selects, and how many of them are ready.
    pub selected: usize,
    pub ready: usize,
    /// How many others there are, those that are ending included.
    pub others: usize,
}

impl Pods {
    /// Whether nothing is left to be done.
    pub fn at_rest(&self) -> bool {
        self.others == 0 && self.selected > 0 && self.ready == self.selected
    }
}

impl Site {
    /// What of `label` the active Service selects.
    pub async fn selected(&self) -> Result<String, BenchError> {
        let found = self.api::<Service>().get(SERVICE).await;
        let found = found.map_err(BenchError::release("the active Service"))?;
        let selector = found.spec.and_then(|it| it.selector).unwrap_or_default();
        let value = selector.get(self.label).cloned();
        value.ok_or_else(|| {
            BenchError::release("the active Service")(format!("it selects by no {}", self.label))
        })
    }

    /// The service's pods with this value of `label`.
    pub async fn pods_of(&self, value: &str) -> Result<Vec<Pod>, BenchError> {
        let pods = self.all_pods().await?;
        Ok(pods
            .into_iter()
            .filter(|pod| self.is_of(pod, value))
            .collect())
    }

    /// Who is there, and who has traffic.
    pub async fn pods(&self) -> Result<Pods, BenchError> {
        let value = self.selected().await?;
        let (selected, others): (Vec<Pod>, Vec<Pod>) = self
            .all_pods()
            .await?
            .into_iter()
            .partition(|pod| self.is_of(pod, &value));
        Ok(Pods {
            version: selected
                .first()
                .and_then(|pod| pod.labels().get(VERSION).cloned()),
            ready: selected.iter().filter(|pod| is_ready(pod)).count(),
            selected: selected.len(),
            others: others.len(),
        })
    }

    /// Waits until the active Service selects something else than `before`, and tells what.
    pub async fn switched(&self, before: &str) -> Result<String, BenchError> {
        let what = "traffic is moved";
        let switched = wait::until(what, SWITCH, SWITCH_LOOK_EVERY, async || {
            match self.selected().await {
                Ok(value) if value != before => Observation::Ready(value),
                Ok(value) => Observation::NotYet(format!("{value} is live")),
                Err(error) => Observation::NotYet(error.to_string()),
            }
        });
        Ok(switched.await?)
    }

    /// Waits until only those that have traffic are there, all of them ready, and tells their
    /// version.
    pub async fn at_rest(&self) -> Result<String, BenchError> {
        self.at_rest_within(REST).await
    }

    /// The same, for so long at most.
    pub async fn at_rest_within(&self, longest: Duration) -> Result<String, BenchError> {
        let what = "only pods that have traffic are there";
        let at_rest = wait::until(what, longest, LOOK_EVERY, async || {
            match self.pods().await {
                Ok(pods) if pods.at_rest() => match pods.version {
                    Some(version) => Observation::Ready(version),
                    None => Observation::NotYet("pods without a version".to_owned()),
                },
                Ok(pods) => Observation::NotYet(format!("{pods:?}")),
                Err(error) => Observation::NotYet(error.to_string()),
            }
        });
        Ok(at_rest.await?)
    }

    /// Objects of this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace)
    }

    async fn all_pods(&self) -> Result<Vec<Pod>, BenchError> {
        let its = ListParams::default().labels(&format!("app.kubernetes.io/name={SERVICE}"));
        let pods = self.api::<Pod>().list(&its).await;
        Ok(pods.map_err(BenchError::release("pods"))?.items)
    }

    fn is_of(&self, pod: &Pod, value: &str) -> bool {
        pod.labels().get(self.label).is_some_and(|it| it == value)
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|it| &it.conditions).flatten();
    let mut ready = conditions.filter(|it| it.type_ == "Ready");
    ready.any(|it| it.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_is_one_version_alone_and_ready() {
        let alone = Pods {
            version: Some("v2".into()),
            selected: 2,
            ready: 2,
            others: 0,
        };
        assert!(alone.at_rest());
        let ending = Pods {
            others: 1,
            ..alone.clone()
        };
        let starting = Pods {
            ready: 1,
            ..alone.clone()
        };
        let gone = Pods {
            selected: 0,
            ready: 0,
            ..alone
        };
        assert!(![ending, starting, gone].iter().any(Pods::at_rest));
    }
}
