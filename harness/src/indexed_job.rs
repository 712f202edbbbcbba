//! Pods of one program that share a piece of work: an indexed Job, each pod of which knows its
//! number, is told lines on standard input, and is heard by its log.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode>

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, Pod, PodTemplateSpec, ResourceRequirements, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{AttachParams, AttachedProcess, DeleteParams, ListParams, LogParams, PostParams};
use kube::{Api, ResourceExt};
use miette::Diagnostic;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::chain;
use crate::cluster::{Cluster, jobs};
use crate::helper_pod::{self, looked_at, quantities, state};
use crate::wait::{self, Observation, WaitError};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// For a log that broke off to be asked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// For the API server to take a line or a deletion, itself away for a while perhaps.
const PATIENCE: Duration = Duration::from_secs(30);
/// What has ended is kept so long: whoever reads its log may have been away.
const KEPT: i32 = 600;
/// What one pod is given at least, and at most: little, so that a small cluster has room for it,
/// and a core.
const CPU: [&str; 2] = ["100m", "1"];
const MEMORY: [&str; 2] = ["64Mi", "512Mi"];
/// Kubernetes' own, on the pods of a Job.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// What is to run.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the pods are for: the Job's name begins so.
    pub part: &'static str,
    /// Their image.
    pub image: String,
    /// The one variable of their environment. No secret: whoever may read pods reads it.
    pub variable: (&'static str, String),
    /// How many there are.
    pub pods: usize,
    /// How long they may live, their start and end included; then the cluster ends them.
    pub lifetime: Duration,
    /// How long one that is to end may take.
    pub grace: Duration,
}

/// What was heard of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line of its log. Those of a log that broke off come again.
    Line(String),
    /// It has ended; how, in the cluster's words. Nothing more is heard of it.
    Ended(String),
}

/// The pods cannot be had, told, or ended.
#[derive(Debug, Error, Diagnostic)]
pub enum IndexedJobError {
    /// The cluster takes no such Job.
    #[error("cannot create a Job in namespace {namespace}: {why}")]
    #[diagnostic(
        code(harness::job::create),
        help("the namespace must be there, and you be allowed to create Jobs in it")
    )]
    Create {
        /// Where.
        namespace: String,
        /// What the API server said.
        why: String,
    },
    /// Not all of its pods run.
    #[error("{wait}{said}")]
    #[diagnostic(
        code(harness::job::start),
        help(
            "the nodes must have the image or be able to pull it, and the namespace's quota room for {cpu} of CPU and {memory} for each",
            cpu = CPU[0],
            memory = MEMORY[0]
        )
    )]
    Start {
        /// What was waited for, and what was seen.
        wait: WaitError,
        /// What a pod said itself, if anything.
        said: String,
    },
    /// One of them did not take a line.
    #[error("cannot tell the pod {pod} anything: {why}")]
    #[diagnostic(
        code(harness::job::tell),
        help("you must be allowed to create pods/attach in its namespace")
    )]
    Tell {
        /// Its name.
        pod: String,
        /// What the API server said.
        why: String,
    },
    /// The Job is still there.
    #[error("cannot delete the Job {job}: {why}")]
    #[diagnostic(
        code(harness::job::delete),
        help("it ends by itself when its time is up, and is removed {KEPT} s later")
    )]
    Delete {
        /// Its namespace and name.
        job: String,
        /// What the API server said.
        why: String,
    },
}

/// A Job whose pods run. It is deleted by [`IndexedJob::end`], and when this is dropped; where
/// that cannot be, the cluster ends it when its lifetime is up.
pub struct IndexedJob {
    owned: Owned,
    /// By their number.
    pods: Vec<String>,
    /// A line is on its way as long as these are there.
    told: Vec<AttachedProcess>,
    heard: Receiver<(usize, Heard)>,
    /// Ends with this.
    _reading: JoinSet<()>,
}

/// The Job.
#[derive(Clone)]
struct Place {
    cluster: Cluster,
    job: String,
}

/// A Job that is deleted when this is dropped, unless it was before.
struct Owned {
    place: Place,
    deleted: bool,
}

impl IndexedJob {
    /// Creates it in the cluster's namespace, and has seen within `deadline` that every pod of
    /// it runs. Where one does not, it is deleted again.
    ///
    /// # Errors
    /// [`IndexedJobError`].
    pub async fn start(
        cluster: &Cluster,
        wanted: &Wanted,
        deadline: Duration,
    ) -> Result<IndexedJob, IndexedJobError> {
        let end = Instant::now() + deadline;
        let jobs: Api<Job> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
        let created = match timeout_at(end, jobs.create(&PostParams::default(), &job(wanted))).await
        {
            Ok(created) => created.map_err(|error| chain(&error)),
            Err(_) => Err("the API server does not answer in time".to_owned()),
        };
        let created = created.map_err(|why| IndexedJobError::Create {
            namespace: cluster.namespace.clone(),
            why,
        })?;
        let mut owned = Owned {
            place: Place {
                cluster: cluster.clone(),
                job: created.name_any(),
            },
            deleted: false,
        };
        let left = end.saturating_duration_since(Instant::now());
        match owned.place.running(&created, wanted, left).await {
            Ok(pods) => Ok(IndexedJob::of(owned, pods)),
            Err(wait) => {
                let said = owned.place.said().await;
                // What the caller has to know is why it failed.
                let _ = owned.delete().await;
                Err(IndexedJobError::Start { wait, said })
            }
        }
    }

    fn of(owned: Owned, pods: Vec<String>) -> IndexedJob {
        let (say, heard) = channel(64);
        let mut reading = JoinSet::new();
        for (number, pod) in pods.iter().enumerate() {
            reading.spawn(follow(owned.place.pods(), pod.clone(), number, say.clone()));
        }
        IndexedJob {
            owned,
            pods,
            told: Vec::new(),
            heard,
            _reading: reading,
        }
    }

    /// Writes a line to the standard input of each pod.
    ///
    /// # Errors
    /// [`IndexedJobError::Tell`].
    pub async fn tell(&mut self, line: &str) -> Result<(), IndexedJobError> {
        let pods = self.owned.place.pods();
        let line = format!("{line}\n");
        let telling = self.pods.iter().map(|pod| tell(&pods, pod, &line));
        self.told = try_join_all(telling).await?;
        Ok(())
    }

    /// What is heard next, and of which pod; none once all have ended.
    pub async fn next(&mut self) -> Option<(usize, Heard)> {
        self.heard.recv().await
    }

    /// Deletes it. Its pods are terminated, and heard of until they have ended.
    ///
    /// # Errors
    /// [`IndexedJobError::Delete`].
    pub async fn end(&mut self) -> Result<(), IndexedJobError> {
        self.owned.delete().await
    }
}

impl Owned {
    async fn delete(&mut self) -> Result<(), IndexedJobError> {
        self.place.delete().await?;
        self.deleted = true;
        Ok(())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let place = self.place.clone();
        if let (false, Ok(runtime)) = (self.deleted, tokio::runtime::Handle::try_current()) {
            // Nobody is left to be told; the Job's own end is near.
            runtime.spawn(async move { drop(place.delete().await) });
        }
    }
}

/// Deletes all Jobs that this process has made for `part`: what is left when it is called off.
///
/// # Errors
/// [`IndexedJobError::Delete`].
pub async fn end_all(cluster: &Cluster, part: &str) -> Result<(), IndexedJobError> {
    let jobs: Api<Job> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
    let (with_its_pods, ours) = (DeleteParams::background(), helper_pod::ours(part));
    let deleted = jobs.delete_collection(&with_its_pods, &ours);
    let why = match timeout(PATIENCE, deleted).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("not done within {PATIENCE:?}"),
    };
    Err(IndexedJobError::Delete {
        job: format!("{}/{part}-*", cluster.namespace),
        why,
    })
}

impl Place {
    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace)
    }

    fn its_pods(&self) -> ListParams {
        ListParams::default().labels(&format!("{JOB_NAME}={}", self.job))
    }

    /// The names of its pods by number, once all of them run.
    async fn running(
        &self,
        job: &Job,
        wanted: &Wanted,
        deadline: Duration,
    ) -> Result<Vec<String>, WaitError> {
        let what = format!(
            "all {} pods of the Job {}/{} run",
            wanted.pods, self.cluster.namespace, self.job
        );
        // Each look owns what it looks at: with a borrow this future would not be `Send`.
        let (place, job, count) = (self.clone(), job.clone(), wanted.pods);
        let look = move || all_run(place.clone(), job.clone(), count);
        wait::until(what, deadline, LOOK_EVERY, look).await
    }

    /// The last line that one of its pods said.
    async fn said(&self) -> String {
        let pods = self.pods();
        let last = LogParams {
            tail_lines: Some(1),
            ..LogParams::default()
        };
        let listed = pods.list(&self.its_pods()).await;
        for pod in listed.into_iter().flat_map(|list| list.items) {
            let log = pods.logs(&pod.name_any(), &last).await.unwrap_or_default();
            if !log.trim().is_empty() {
                return format!("; it said: {}", log.trim());
            }
        }
        String::new()
    }

    async fn delete(&self) -> Result<(), IndexedJobError> {
        let name = format!("{}/{}", self.cluster.namespace, self.job);
        let what = format!("the Job {name} is deleted");
        let place = self.clone();
        let deleted = wait::until(what, PATIENCE, AGAIN, move || deleted(place.clone()));
        deleted.await.map_err(|error| IndexedJobError::Delete {
            job: name,
            why: error.to_string(),
        })
    }
}

async fn all_run(place: Place, job: Job, count: usize) -> Observation<Vec<String>> {
    let listed = match place.pods().list(&place.its_pods()).await {
        Ok(listed) => listed.items,
        Err(error) => return Observation::NotYet(chain(&error)),
    };
    let mut running = BTreeMap::new();
    for pod in &listed {
        match (state(pod), number_of(pod)) {
            (Observation::Hopeless(why), _) => {
                return Observation::Hopeless(format!("{}: {why}", pod.name_any()));
            }
            (Observation::Ready(()), Some(number)) => {
                running.insert(number, pod.name_any());
            }
            _ => {}
        }
    }
    if running.len() == count {
        return Observation::Ready(running.into_values().collect());
    }
    let waits_for = listed.iter().find_map(|pod| match state(pod) {
        Observation::NotYet(why) => Some(format!("; {}: {why}", pod.name_any())),
        _ => None,
    });
    let refused = match listed.len() < count {
        true => jobs::refused_pods(&place.cluster, &job)
            .await
            .ok()
            .flatten(),
        false => None,
    };
    let refused = refused.map(|trouble| format!("; {trouble}"));
    let why = refused.or(waits_for).unwrap_or_default();
    Observation::NotYet(format!("{} of {count} run{why}", running.len()))
}

fn number_of(pod: &Pod) -> Option<usize> {
    pod.annotations().get(INDEX)?.parse().ok()
}

async fn deleted(place: Place) -> Observation<()> {
    let jobs: Api<Job> = Api::namespaced(place.cluster.client().clone(), &place.cluster.namespace);
    match jobs.delete(&place.job, &DeleteParams::background()).await {
        Ok(_) => Observation::Ready(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Observation::Ready(()),
        Err(error) => Observation::NotYet(chain(&error)),
    }
}

async fn tell(pods: &Api<Pod>, pod: &str, line: &str) -> Result<AttachedProcess, IndexedJobError> {
    let only_in = AttachParams {
        stdin: true,
        stdout: false,
        stderr: false,
        ..AttachParams::default()
    };
    let telling = async {
        let mut attached = pods
            .attach(pod, &only_in)
            .await
            .map_err(|error| chain(&error))?;
        let stdin = attached.stdin();
        let mut stdin = stdin.ok_or("it has no standard input")?;
        let written = stdin.write_all(line.as_bytes()).await;
        written.map_err(|error| error.to_string())?;
        Ok(attached)
    };
    let told = match timeout(PATIENCE, telling).await {
        Ok(told) => told,
        Err(_) => Err(format!("not done within {PATIENCE:?}")),
    };
    told.map_err(|why| IndexedJobError::Tell {
        pod: pod.to_owned(),
        why,
    })
}

/// Hears a pod to its end. A log that breaks off, as all do while the API server is away, is
/// read again from its start.
async fn follow(pods: Api<Pod>, pod: String, number: usize, say: Sender<(usize, Heard)>) {
    loop {
        let looked = looked_at(pods.clone(), pod.clone()).await;
        if read(&pods, &pod, number, &say).await.is_err() {
            return;
        }
        if let Observation::Hopeless(why) = looked {
            // Nobody listens any more where this fails.
            let _ = say.send((number, Heard::Ended(why))).await;
            return;
        }
        sleep(AGAIN).await;
    }
}

/// Fails where nobody listens any more.
async fn read(
    pods: &Api<Pod>,
    pod: &str,
    number: usize,
    say: &Sender<(usize, Heard)>,
) -> Result<(), ()> {
    let followed = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let Ok(log) = pods.log_stream(pod, &followed).await else {
        return Ok(());
    };
    let log = std::pin::pin!(log);
    let mut lines = log.lines();
    while let Some(Ok(line)) = lines.next().await {
        let said = say.send((number, Heard::Line(line))).await;
        said.map_err(|_| ())?;
    }
    Ok(())
}

fn job(wanted: &Wanted) -> Job {
    let (variable, value) = &wanted.variable;
    let container = Container {
        name: wanted.part.into(),
        image: Some(wanted.image.clone()),
        env: Some(vec![EnvVar {
            name: (*variable).into(),
            value: Some(value.clone()),
            ..Default::default()
        }]),
        stdin: Some(true),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(CPU[0], MEMORY[0])),
            limits: Some(quantities(CPU[1], MEMORY[1])),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut pod = helper_pod::restricted(wanted.part, container, wanted.lifetime);
    if let Some(spec) = &mut pod.spec {
        spec.termination_grace_period_seconds = i64::try_from(wanted.grace.as_secs()).ok();
        spec.topology_spread_constraints = Some(vec![over_the_nodes(&pod.metadata.labels)]);
    }
    let count = i32::try_from(wanted.pods).ok();
    let mut template = pod.metadata.clone();
    template.generate_name = None;
    Job {
        metadata: pod.metadata,
        spec: Some(JobSpec {
            completion_mode: Some("Indexed".into()),
            completions: count,
            parallelism: count,
            // A part of the work is not the work: without one of them the others end too.
            backoff_limit: Some(0),
            active_deadline_seconds: i64::try_from(wanted.lifetime.as_secs()).ok(),
            ttl_seconds_after_finished: Some(KEPT),
            template: PodTemplateSpec {
                metadata: Some(template),
                spec: pod.spec,
            },
            ..Default::default()
        }),
        status: None,
    }
}

/// As evenly as may be.
fn over_the_nodes(labels: &Option<BTreeMap<String, String>>) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: labels.clone(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
