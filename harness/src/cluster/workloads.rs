//! One look at what a release runs: its Deployments, ReplicaSets, Jobs and pods.

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

/// How long one look may take; it is milliseconds where all is well.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// How long the API server may be away while something is watched: it restarts
/// within seconds, a load balancer before it notices later.
const ABSENCE: Duration = Duration::from_secs(10);

/// Numbers the ReplicaSets of a Deployment; on the Deployment, that of the newest.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// What carries a selector's labels in the cluster's namespace.
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
    /// What the API server said.
    pub async fn look(cluster: &Cluster, selector: &str) -> Result<Workloads, ClusterError> {
        // First, so that the ReplicaSet that a Deployment says it made is in the later list.
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

    /// The ReplicaSet of a Deployment's present template, once its controller made it.
    pub fn newest_replica_set(&self, deployment: &Deployment) -> Option<&ReplicaSet> {
        let revision = deployment.annotations().get(REVISION)?;
        self.replica_sets
            .iter()
            .filter(|it| is_owned_by(*it, deployment))
            .find(|it| it.annotations().get(REVISION) == Some(revision))
    }

    /// The pods that a ReplicaSet or a Job made and that are not on their way out.
    pub fn pods_of(&self, owner: &impl Resource) -> impl Iterator<Item = &Pod> {
        let uid = owner.meta().uid.clone();
        self.staying_pods()
            .filter(move |pod| is_owned(*pod, uid.as_deref()))
    }

    /// The pods that are not on their way out.
    pub fn staying_pods(&self) -> impl Iterator<Item = &Pod> {
        let pods = self.pods.iter();
        pods.filter(|pod| pod.metadata.deletion_timestamp.is_none())
    }

    /// Whether a pod is on its way in or out, and nothing keeps it.
    pub fn is_moving(&self) -> bool {
        self.pods.iter().any(|pod| {
            let ends = pod.metadata.deletion_timestamp.is_some();
            ends || (is_starting(pod) && pods::trouble(pod).is_none())
        })
    }

    /// The pods of a Deployment's earlier templates that are not on their way out.
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
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    !has_ended && !pods::is_ready(pod)
}

fn is_owned_by(object: &impl Resource, owner: &impl Resource) -> bool {
    is_owned(object, owner.meta().uid.as_deref())
}

fn is_owned(object: &impl Resource, owner: Option<&str>) -> bool {
    let owners = object.meta().owner_references.iter().flatten();
    owner.is_some_and(|owner| owners.into_iter().any(|it| it.uid == owner))
}

async fn list<K>(cluster: &Cluster, selector: &str, what: &str) -> Result<Vec<K>, ClusterError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
    let listed = api.list(&ListParams::default().labels(selector)).await;
    let listed = listed.map_err(|error| ClusterError::of(what, error))?;
    Ok(listed.items)
}

/// Looks again and again, and bears with an API server that is away for a while.
pub struct Lookout<'a> {
    cluster: &'a Cluster,
    selector: &'a str,
    away_since: Option<Instant>,
}

impl<'a> Lookout<'a> {
    /// Looks at what `selector` selects.
    pub fn new(cluster: &'a Cluster, selector: &'a str) -> Lookout<'a> {
        Lookout {
            cluster,
            selector,
            away_since: None,
        }
    }

    /// What is there now, or why that cannot be seen just now.
    ///
    /// # Errors
    /// What is not expected to pass, or lasts longer than 10 s.
    pub async fn look(&mut self) -> Result<Result<Workloads, ClusterError>, ClusterError> {
        let started = Instant::now();
        let looking = Workloads::look(self.cluster, self.selector);
        let seen = tokio::time::timeout(LOOK_PATIENCE, looking).await;
        let seen = seen.unwrap_or_else(|_| {
            Err(ClusterError::Silent {
                what: "list what the release runs".to_owned(),
                reason: format!("no answer within {LOOK_PATIENCE:?}"),
            })
        });
        let error = match seen {
            Ok(workloads) => {
                self.away_since = None;
                return Ok(Ok(workloads));
            }
            Err(error) => error,
        };
        let since = *self.away_since.get_or_insert(started);
        match error.may_pass() && since.elapsed() < ABSENCE {
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

    use super::super::mock::Server;
    use super::*;

    fn answering(code: &Arc<AtomicU16>) -> Server {
        let code = Arc::clone(code);
        Server::new(move |_| match code.load(Ordering::Relaxed) {
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
    async fn an_api_server_may_be_away_for_a_while() {
        let code = Arc::new(AtomicU16::new(503));
        let server = answering(&code);
        let cluster = server.cluster("trii");
        let mut lookout = Lookout::new(&cluster, "a=b");
        assert!(lookout.look().await.unwrap().is_err());
        tokio::time::advance(ABSENCE - Duration::from_secs(1)).await;
        assert!(lookout.look().await.unwrap().is_err());
        code.store(200, Ordering::Relaxed);
        assert!(lookout.look().await.unwrap().is_ok());
        code.store(500, Ordering::Relaxed);
        assert!(lookout.look().await.unwrap().is_err());
        tokio::time::advance(ABSENCE).await;
        let error = lookout.look().await.err().unwrap();
        assert!(error.to_string().contains("etcd is away"), "{error}");
    }

    #[tokio::test]
    async fn what_is_forbidden_is_not_tried_again() {
        let code = Arc::new(AtomicU16::new(403));
        let server = answering(&code);
        let cluster = server.cluster("trii");
        let error = Lookout::new(&cluster, "a=b").look().await.err().unwrap();
        assert!(matches!(error, ClusterError::Forbidden { .. }));
    }
}
