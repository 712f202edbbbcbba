//! Where a contender releases: pods in a namespace, and the Service by which users reach them.

use std::time::Duration;

use base::wait::{self, Observation};
use blue_green::objects::VERSION;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use kubernetes::Cluster;

use super::SERVICE;
use crate::bench::error::BenchError;

/// For a release to reach its switch.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(300);
/// Faults are planted, and deployers killed, at most this long after the switch.
const SWITCH_POLL_EVERY: Duration = Duration::from_millis(50);

/// For pods to start or end, with their grace period.
const PODS_TIMEOUT: Duration = Duration::from_secs(180);
const POLL_EVERY: Duration = Duration::from_millis(250);

pub struct ReleaseSite {
    /// The cluster, and the namespace.
    pub cluster: Cluster,
    /// The label whose value the active Service selects.
    pub label: &'static str,
    /// The path of users' requests.
    pub path: &'static str,
}

/// The service's pods, and which of them have traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    /// The version that the active Service selects; none if it selects no pod.
    pub version: Option<String>,
    /// How many pods it selects, and how many of them are ready.
    pub selected: usize,
    pub ready: usize,
    /// How many other pods there are, including ending ones.
    pub others: usize,
}

impl Pods {
    /// Whether only ready pods with traffic are left.
    pub fn steady(&self) -> bool {
        self.others == 0 && self.selected > 0 && self.ready == self.selected
    }
}

impl ReleaseSite {
    /// The value of `label` that the active Service selects.
    pub async fn selected(&self) -> Result<String, BenchError> {
        let found = self.api::<Service>().get(SERVICE).await;
        let found = found.map_err(BenchError::release("the active Service"))?;
        let selector = found.spec.and_then(|it| it.selector).unwrap_or_default();
        let value = selector.get(self.label).cloned();
        let missing = || format!("it does not select by {}", self.label);
        value
            .ok_or_else(missing)
            .map_err(BenchError::release("the active Service"))
    }

    /// The service's pods with this value of `label`.
    pub async fn pods_of(&self, value: &str) -> Result<Vec<Pod>, BenchError> {
        let mut pods = self.all_pods().await?;
        pods.retain(|pod| self.is_of(pod, value));
        Ok(pods)
    }

    /// The service's pods, and which of them have traffic.
    pub async fn pods(&self) -> Result<Pods, BenchError> {
        let value = self.selected().await?;
        let pods = self.all_pods().await?.into_iter();
        let (selected, others): (Vec<Pod>, Vec<Pod>) =
            pods.partition(|pod| self.is_of(pod, &value));
        let first = selected.first();
        Ok(Pods {
            version: first.and_then(|pod| pod.labels().get(VERSION).cloned()),
            ready: selected.iter().filter(|pod| is_ready(pod)).count(),
            selected: selected.len(),
            others: others.len(),
        })
    }

    /// Waits until the active Service selects another value than `before`, and returns it.
    pub async fn switched(&self, before: &str) -> Result<String, BenchError> {
        let what = "traffic is moved";
        let switched = wait::until(what, SWITCH_TIMEOUT, SWITCH_POLL_EVERY, async || match self
            .selected()
            .await
        {
            Ok(value) if value != before => Observation::Ready(value),
            Ok(value) => Observation::NotYet(format!("{value} is live")),
            Err(error) => Observation::NotYet(error.to_string()),
        });
        Ok(switched.await?)
    }

    /// Waits until only pods with traffic are left, all of them ready, and returns their version.
    pub async fn steady(&self) -> Result<String, BenchError> {
        self.steady_within(PODS_TIMEOUT).await
    }

    /// As [`ReleaseSite::steady`], with this timeout.
    pub async fn steady_within(&self, longest: Duration) -> Result<String, BenchError> {
        let what = "only pods with traffic are left";
        let steady = wait::until(what, longest, POLL_EVERY, async || {
            match self.pods().await {
                Ok(pods) if pods.steady() => match pods.version {
                    Some(version) => Observation::Ready(version),
                    None => Observation::NotYet("pods without a version".to_owned()),
                },
                Ok(pods) => Observation::NotYet(format!("{pods:?}")),
                Err(error) => Observation::NotYet(error.to_string()),
            }
        });
        Ok(steady.await?)
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
    fn pods_are_steady_when_only_ready_pods_of_one_version_are_left() {
        let alone = Pods {
            version: Some("v2".into()),
            selected: 2,
            ready: 2,
            others: 0,
        };
        assert!(alone.steady());
        let ending = Pods {
            others: 1,
            ..alone.clone()
        };
        let starting = Pods {
            ready: 1,
            ..alone.clone()
        };
        let none = Pods {
            selected: 0,
            ready: 0,
            ..alone
        };
        assert!(![ending, starting, none].iter().any(Pods::steady));
    }
}
