//! The workloads of a release: its Deployments, StatefulSets, DaemonSets, Jobs, and their pods.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
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

/// helm's annotation with the release of an object. Charts need not label their objects with it.
const RELEASE: &str = "meta.helm.sh/release-name";

/// The annotation of helm's hooks, which do not have [`RELEASE`].
const HOOK: &str = "helm.sh/hook";

/// The label that charts should give their objects, hooks included, with the release's name.
/// <https://helm.sh/docs/chart_best_practices/labels/>
const INSTANCE: &str = "app.kubernetes.io/instance";

/// A choice of workloads in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// Those that a label selector selects.
    Labels(String),
    /// Those of the helm release of this name, and its hooks.
    Release(String),
}

impl From<&str> for Selection {
    fn from(label_selector: &str) -> Self {
        Selection::Labels(label_selector.to_owned())
    }
}

impl From<&String> for Selection {
    fn from(label_selector: &String) -> Self {
        Selection::Labels(label_selector.clone())
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::All => f.write_str("the namespace"),
            Selection::Labels(selector) => f.write_str(selector),
            Selection::Release(name) => write!(f, "the release {name}"),
        }
    }
}

/// Returns the name of the release that helm installed the object with.
pub fn release_of(object: &impl Resource) -> Option<&str> {
    object.annotations().get(RELEASE).map(String::as_str)
}

/// Returns whether helm installed the object with the release of this name.
pub fn is_of_release(object: &impl Resource, name: &str) -> bool {
    release_of(object) == Some(name)
}

/// Returns whether a Job is a hook that may be of the release of this name: helm does not annotate
/// hooks, so a hook without the recommended label can be of any release.
fn is_hook_of_release(job: &Job, name: &str) -> bool {
    let is_hook = job.annotations().contains_key(HOOK);
    let instance = job.labels().get(INSTANCE);
    is_hook && instance.is_none_or(|it| it == name)
}

/// The selected workloads in the cluster's namespace.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    /// The Deployments.
    pub deployments: Vec<Deployment>,
    /// Their ReplicaSets, old ones included.
    pub replica_sets: Vec<ReplicaSet>,
    /// The StatefulSets. None if they may not be listed: nobody who installs some lacks that.
    pub stateful_sets: Vec<StatefulSet>,
    /// The DaemonSets, as the StatefulSets.
    pub daemon_sets: Vec<DaemonSet>,
    /// The Jobs, hooks included.
    pub jobs: Vec<Job>,
    /// The pods of all of them.
    pub pods: Vec<Pod>,
}

impl Workloads {
    /// Lists the selected workloads.
    ///
    /// # Errors
    /// What the API server answered.
    pub async fn look(
        cluster: &Cluster,
        selection: impl Into<Selection>,
    ) -> Result<Workloads, ClusterError> {
        let selection = selection.into();
        let parameters = match &selection {
            Selection::Labels(selector) => ListParams::default().labels(selector),
            Selection::All | Selection::Release(_) => ListParams::default(),
        };
        let parameters = &parameters;
        // First, so that the next list has the ReplicaSet that a Deployment reports. The lists are
        // boxed: debug builds copy futures, and those of callers would overflow a thread's stack.
        let deployments = Box::pin(list(cluster, parameters, "list Deployments")).await?;
        let (replica_sets, stateful_sets, daemon_sets, jobs, pods) = tokio::try_join!(
            Box::pin(list(cluster, parameters, "list ReplicaSets")),
            Box::pin(list(cluster, parameters, "list StatefulSets").map(if_permitted)),
            Box::pin(list(cluster, parameters, "list DaemonSets").map(if_permitted)),
            Box::pin(list(cluster, parameters, "list Jobs")),
            Box::pin(list(cluster, parameters, "list Pods")),
        )?;
        let all = Workloads {
            deployments,
            replica_sets,
            stateful_sets,
            daemon_sets,
            jobs,
            pods,
        };
        Ok(match &selection {
            Selection::Release(name) => all.of_release(name),
            Selection::All | Selection::Labels(_) => all,
        })
    }

    /// Keeps what helm installed with a release, the pods of that, and its hooks.
    fn of_release(mut self, name: &str) -> Workloads {
        self.deployments.retain(|it| is_of_release(it, name));
        self.stateful_sets.retain(|it| is_of_release(it, name));
        self.daemon_sets.retain(|it| is_of_release(it, name));
        self.jobs
            .retain(|it| is_of_release(it, name) || is_hook_of_release(it, name));
        let deployments = &self.deployments;
        let of_deployment = |set: &ReplicaSet| deployments.iter().any(|it| is_owned_by(set, it));
        self.replica_sets.retain(of_deployment);
        let owners: BTreeSet<String> = uids(&self.replica_sets)
            .chain(uids(&self.stateful_sets))
            .chain(uids(&self.daemon_sets))
            .chain(uids(&self.jobs))
            .collect();
        self.pods.retain(|pod| {
            let mut references = pod.owner_references().iter();
            references.any(|it| owners.contains(&it.uid))
        });
        self
    }

    /// Returns the ReplicaSet of a Deployment's current template, if its controller has created it.
    pub fn newest_replica_set(&self, deployment: &Deployment) -> Option<&ReplicaSet> {
        let revision = deployment.annotations().get(REVISION)?;
        self.replica_sets
            .iter()
            .filter(|it| is_owned_by(*it, deployment))
            .find(|it| it.annotations().get(REVISION) == Some(revision))
    }

    /// Returns the pods of a ReplicaSet, a StatefulSet, a DaemonSet or a Job that are not
    /// terminating.
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

fn uids<K: Resource>(objects: &[K]) -> impl Iterator<Item = String> {
    objects.iter().filter_map(|it| it.meta().uid.clone())
}

/// Returns none of a kind that the role may not list.
fn if_permitted<K>(listed: Result<Vec<K>, ClusterError>) -> Result<Vec<K>, ClusterError> {
    match listed {
        Err(ClusterError::Forbidden { .. }) => Ok(Vec::new()),
        listed => listed,
    }
}

async fn list<K>(
    cluster: &Cluster,
    parameters: &ListParams,
    what: &str,
) -> Result<Vec<K>, ClusterError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = cluster.api();
    let listed = api.list(parameters).await;
    let listed = listed.map_err(|error| ClusterError::of(what, error))?;
    Ok(listed.items)
}

/// Reads repeatedly, and tolerates an API server that is unavailable for a while.
pub struct WorkloadReader<'a> {
    cluster: &'a Cluster,
    selection: Selection,
    unavailable_since: Option<Instant>,
}

impl<'a> WorkloadReader<'a> {
    /// Prepares reads of the selected workloads.
    pub fn new(cluster: &'a Cluster, selection: impl Into<Selection>) -> WorkloadReader<'a> {
        WorkloadReader {
            cluster,
            selection: selection.into(),
            unavailable_since: None,
        }
    }

    /// Returns the current workloads, or a temporary error.
    ///
    /// # Errors
    /// A permanent error, or one that lasts longer than 10 s.
    pub async fn look(&mut self) -> Result<Result<Workloads, ClusterError>, ClusterError> {
        let started = Instant::now();
        let reading = Workloads::look(self.cluster, self.selection.clone());
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

    #[test]
    fn a_release_has_what_helm_annotated_and_the_pods_of_it() {
        let of = |kind: &str, uid: &str, annotation: (&str, &str), owner: &str| {
            json!({"kind": kind, "metadata": {"uid": uid, "name": uid,
                "annotations": {annotation.0: annotation.1},
                "ownerReferences": [{"apiVersion": "v1", "kind": "x", "name": owner, "uid": owner}]},
                "spec": {"selector": {}, "serviceName": "x", "template": {}}})
        };
        fn read<K: DeserializeOwned>(objects: Vec<serde_json::Value>) -> Vec<K> {
            let objects = objects.into_iter();
            objects
                .map(|it| serde_json::from_value(it).unwrap())
                .collect()
        }
        let none = ("x", "y");
        let labelled = |uid: &str, release: &str| {
            let mut hook = of("Job", uid, (HOOK, "pre-upgrade"), "");
            hook["metadata"]["labels"] = json!({INSTANCE: release});
            hook
        };
        let all = Workloads {
            deployments: read(vec![
                of("Deployment", "ours", (RELEASE, "a"), ""),
                of("Deployment", "theirs", (RELEASE, "b"), ""),
            ]),
            replica_sets: read(vec![
                of("ReplicaSet", "ours-1", none, "ours"),
                of("ReplicaSet", "theirs-1", none, "theirs"),
            ]),
            jobs: read(vec![
                of("Job", "hook", (HOOK, "pre-upgrade"), ""),
                labelled("our-hook", "a"),
                labelled("their-hook", "b"),
                of("Job", "cron", none, ""),
            ]),
            stateful_sets: read(vec![
                of("StatefulSet", "our-db", (RELEASE, "a"), ""),
                of("StatefulSet", "their-db", (RELEASE, "b"), ""),
            ]),
            daemon_sets: read(vec![
                of("DaemonSet", "our-agent", (RELEASE, "a"), ""),
                of("DaemonSet", "their-agent", (RELEASE, "b"), ""),
            ]),
            pods: read(
                [
                    "ours-1",
                    "theirs-1",
                    "our-db",
                    "their-db",
                    "our-agent",
                    "their-agent",
                    "hook",
                    "our-hook",
                    "their-hook",
                    "cron",
                ]
                .map(|owner| {
                    let mut pod = of("Pod", &format!("pod-of-{owner}"), none, owner);
                    pod.as_object_mut().unwrap().remove("spec");
                    pod
                })
                .to_vec(),
            ),
        };
        let found = all.of_release("a");
        let names = |pods: &[Pod]| pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
        assert_eq!(found.deployments.len(), 1);
        assert_eq!(found.replica_sets.len(), 1);
        assert_eq!(
            names(&found.pods),
            [
                "pod-of-ours-1",
                "pod-of-our-db",
                "pod-of-our-agent",
                "pod-of-hook",
                "pod-of-our-hook"
            ]
        );
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
