//! Pods of one program that share a piece of work: an indexed Job, each pod of which knows its
//! number, is told lines on standard input, and is heard by its log.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode>

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, Pod, PodTemplateSpec, ResourceRequirements, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{AttachParams, AttachedProcess, DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use miette::Diagnostic;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::chain;
use crate::cluster::{Cluster, jobs};
use crate::helper_pod::{self, HelperError, HelperPod, Owner, hear, quantities, state};
use crate::wait::Observation;

/// For the API server to take a line, itself away for a while perhaps.
const PATIENCE: Duration = Duration::from_secs(30);
/// What has ended is kept so long: whoever reads its log may have been away.
const KEPT: i32 = 600;
/// What one pod is given at least, and at most: little, so that a small cluster has room for it,
/// and a core.
const CPU: [&str; 2] = ["100m", "1"];
const MEMORY: [&str; 2] = ["64Mi", "512Mi"];
/// Kubernetes' own, on the pods of a Job.
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
    /// The Job cannot be had, or be deleted.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Job(#[from] HelperError),
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
}

/// A Job whose pods run. It is deleted by [`IndexedJob::end`], and when this is dropped; where
/// that cannot be, the cluster ends it when its lifetime is up.
pub struct IndexedJob {
    job: HelperPod<Job>,
    /// By their number.
    pods: Vec<String>,
    /// A line is on its way as long as these are there.
    told: Vec<AttachedProcess>,
    heard: UnboundedReceiver<(usize, Heard)>,
    /// Ends with this.
    _reading: JoinSet<()>,
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
        let (client, namespace) = (cluster.client().clone(), &cluster.namespace);
        let (job, with_its_pods) = (job(wanted), DeleteParams::background());
        let job = HelperPod::create(client, namespace, &job, with_its_pods, end).await?;
        let look = {
            let (cluster, pods, its_pods) = (cluster.clone(), job.pods(), job.its_pods());
            let (created, count) = (job.created().clone(), wanted.pods);
            // Each look owns what it looks at: with a borrow this future would not be `Send`.
            move || {
                let looked_at = (pods.clone(), its_pods.clone());
                all_run(cluster.clone(), created.clone(), looked_at, count)
            }
        };
        let does = format!("has {} pods that run", wanted.pods);
        let (job, pods) = job.until(&does, end, look).await?;
        Ok(IndexedJob::of(job, pods))
    }

    fn of(job: HelperPod<Job>, pods: Vec<String>) -> IndexedJob {
        let (say, heard) = unbounded_channel();
        let mut reading = JoinSet::new();
        for (number, pod) in pods.iter().enumerate() {
            reading.spawn(follow(job.pods(), pod.clone(), number, say.clone()));
        }
        IndexedJob {
            job,
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
        let pods = self.job.pods();
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
    /// [`IndexedJobError::Job`].
    pub async fn end(&self) -> Result<(), IndexedJobError> {
        Ok(self.job.delete().await?)
    }
}

/// The names of the pods by number, once all of them run.
async fn all_run(
    cluster: Cluster,
    job: Job,
    (pods, its_pods): (Api<Pod>, ListParams),
    count: usize,
) -> Observation<Vec<String>> {
    let listed = match pods.list(&its_pods).await {
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
        true => jobs::refused_pods(&cluster, &job).await.ok().flatten(),
        false => None,
    };
    let refused = refused.map(|trouble| format!("; {trouble}"));
    let why = refused.or(waits_for).unwrap_or_default();
    Observation::NotYet(format!("{} of {count} run{why}", running.len()))
}

/// Deletes all Jobs that this process has made for `part`: what is left when it is called off.
///
/// # Errors
/// [`IndexedJobError::Job`].
pub async fn end_all(cluster: &Cluster, part: &str) -> Result<(), IndexedJobError> {
    let (client, with_its_pods) = (cluster.client().clone(), DeleteParams::background());
    let (namespace, all) = (&cluster.namespace, (part, &Owner::this_process()));
    Ok(helper_pod::delete_all::<Job>(client, namespace, all, &with_its_pods).await?)
}

fn number_of(pod: &Pod) -> Option<usize> {
    pod.annotations().get(INDEX)?.parse().ok()
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

/// Hears a pod to its end.
async fn follow(pods: Api<Pod>, pod: String, number: usize, say: UnboundedSender<(usize, Heard)>) {
    let line = |line| match say.send((number, Heard::Line(line))) {
        Ok(()) => ControlFlow::Continue(()),
        // Nobody listens any more.
        Err(_) => ControlFlow::Break(()),
    };
    if let Some(how) = hear(pods, pod, line).await {
        // The same.
        let _ = say.send((number, Heard::Ended(how)));
    }
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
    let mut pod = helper_pod::restricted(
        wanted.part,
        &Owner::this_process(),
        container,
        wanted.lifetime,
    );
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
