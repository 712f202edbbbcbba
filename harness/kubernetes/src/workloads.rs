//! The workloads of a release: its Deployments, ReplicaSets, Jobs and pods.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{Cluster, ClusterError, pods};

/// How long one read may take. It usually takes milliseconds.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the API server may be unavailable during a wait: it restarts within seconds, and a load
/// balancer in front of it detects that a little later.
const OUTAGE: Duration = Duration::from_secs(10);

/// The annotation with a ReplicaSet's number. A Deployment has that of its newest ReplicaSet.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The workloads that a selector selects in the cluster's namespace.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    /// The Deployments.
    pub deployments: Vec<Deployment>,
    /// Their ReplicaSets, old ones included.
    pub replica_sets: Vec<ReplicaSet>,
    /// The Jobs, hooks included.
    pub jobs: Vec<Job>,
    /// The pods of all of them.
    pub pods: Vec<Pod>,
}

impl Workloads {
    /// Lists what `selector` (a label selector) selects.
    ///
    /// # Errors
    /// What the API server answered.
    pub async fn look(cluster: &Cluster, selector: &str) -> Result<Workloads, ClusterError> {
        // First, so that the next list has the ReplicaSet that a Deployment reports.
        let deployments = list(cluster, selector, "list Deployments").await?;
        let (replica_sets, jobs, pods) = tokio::try_join!(
            list(cluster, selector, "list ReplicaSets"),
            list(cluster, selector, "list Jobs"),
            list(cluster, selector, "list Pods"),
        )?;
        Ok(Workloads {
            deployments,
            replica_sets,
            jobs,
            pods,
        })
    }

    /// Returns the ReplicaSet of a Deployment's current template, if its controller has created it.
    pub fn newest_replica_set(&self, deployment: &Deployment) -> Option<&ReplicaSet> {
        let revision = deployment.annotations().get(REVISION)?;
        self.replica_sets
            .iter()
            .filter(|it| is_owned_by(*it, deployment))
            .find(|it| it.annotations().get(REVISION) == Some(revision))
    }

    /// Returns the pods of a ReplicaSet or a Job that are not terminating.
    pub fn pods_of(&self, owner: &impl Resource) -> impl Iterator<Item = &Pod> {
        self.staying_pods()
            .filter(move |pod| is_owned_by(*pod, owner))
    }

    /// Returns the pods that are not terminating.
    pub fn staying_pods(&self) -> impl Iterator<Item = &Pod> {
        let pods = self.pods.iter();
        pods.filter(|pod| pod.metadata.deletion_timestamp.is_none())
    }

    /// Whether a pod is starting or terminating, and nothing blocks it.
    pub fn is_moving(&self) -> bool {
        self.pods.iter().any(|pod| {
            let is_terminating = pod.metadata.deletion_timestamp.is_some();
            is_terminating || (is_starting(pod) && pods::problem(pod).is_none())
        })
    }

    /// Returns the number of pods of a Deployment's earlier templates that are not terminating.
    pub fn old_pods(&self, deployment: &Deployment) -> usize {
        let newest = self.newest_replica_set(deployment);
        let newest = newest.and_then(|it| it.metadata.uid.as_deref());
        self.replica_sets
            .iter()
            .filter(|it| is_owned_by(*it, deployment))
            .filter(|it| it.metadata.uid.as_deref() != newest)
            .map(|it| self.pods_of(it).count())
            .sum()
    }
}

fn is_starting(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return true;
    };
    let is_finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    !is_finished && !pods::is_ready(pod)
}

fn is_owned_by(object: &impl Resource, owner: &impl Resource) -> bool {
    let uid = owner.meta().uid.as_ref();
    uid.is_some_and(|uid| object.owner_references().iter().any(|it| it.uid == *uid))
}

async fn list<K>(cluster: &Cluster, selector: &str, what: &str) -> Result<Vec<K>, ClusterError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = cluster.api();
    let listed = api.list(&ListParams::default().labels(selector)).await;
    let listed = listed.map_err(|error| ClusterError::of(what, error))?;
    Ok(listed.items)
}

/// Reads repeatedly, and tolerates an API server that is unavailable for a while.
pub struct WorkloadReader<'a> {
    cluster: &'a Cluster,
    selector: &'a str,
    unavailable_since: Option<Instant>,
}

impl<'a> WorkloadReader<'a> {
    /// Prepares reads of what `selector` selects.
    pub fn new(cluster: &'a Cluster, selector: &'a str) -> WorkloadReader<'a> {
        WorkloadReader {
            cluster,
            selector,
            unavailable_since: None,
        }
    }

    /// Returns the current workloads, or a temporary error.
    ///
    /// # Errors
    /// A permanent error, or one that lasts longer than 10 s.
    pub async fn look(&mut self) -> Result<Result<Workloads, ClusterError>, ClusterError> {
        let started = Instant::now();
        let reading = Workloads::look(self.cluster, self.selector);
        let read = tokio::time::timeout(READ_TIMEOUT, reading).await;
        let read = read.unwrap_or_else(|_| {
            Err(ClusterError::Silent {
                what: "list what the release runs".to_owned(),
                reason: format!("no answer within {READ_TIMEOUT:?}"),
            })
        });
        let error = match read {
            Ok(workloads) => {
                self.unavailable_since = None;
                return Ok(Ok(workloads));
            }
            Err(error) => error,
        };
        let since = *self.unavailable_since.get_or_insert(started);
        match error.may_pass() && since.elapsed() < OUTAGE {
            true => Ok(Err(error)),
            false => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use serde_json::json;

    use super::*;
    use crate::mock::MockServer;

    fn answering(code: &Arc<AtomicU16>) -> MockServer {
        let code = Arc::clone(code);
        MockServer::new(move |_| match code.load(Ordering::Relaxed) {
            200 => (
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []}),
            ),
            code => (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "message": "etcd is away", "reason": "x"}),
            ),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_may_be_unavailable_for_a_while() {
        let code = Arc::new(AtomicU16::new(503));
        let server = answering(&code);
        let cluster = server.cluster("trii");
        let mut lookout = WorkloadReader::new(&cluster, "a=b");
        assert!(lookout.look().await.unwrap().is_err());
        tokio::time::advance(OUTAGE - Duration::from_secs(1)).await;
        assert!(lookout.look().await.unwrap().is_err());
        code.store(200, Ordering::Relaxed);
        assert!(lookout.look().await.unwrap().is_ok());
        code.store(500, Ordering::Relaxed);
        assert!(lookout.look().await.unwrap().is_err());
        tokio::time::advance(OUTAGE).await;
        let error = lookout.look().await.err().unwrap();
        assert!(error.to_string().contains("etcd is away"), "{error}");
    }

    #[tokio::test]
    async fn a_forbidden_request_is_not_retried() {
        let code = Arc::new(AtomicU16::new(403));
        let server = answering(&code);
        let cluster = server.cluster("trii");
        let error = WorkloadReader::new(&cluster, "a=b")
            .look()
            .await
            .err()
            .unwrap();
        assert!(matches!(error, ClusterError::Forbidden { .. }));
    }
}
