//! An indexed Job: pods of one program that share some work. Each pod knows its number, receives
//! lines on standard input, and answers in its log.
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

use crate::helper_pod::{self, HelperError, HelperPod, Owner, follow_log, quantities, state};
use crate::{Cluster, job_events};
use base::chain;
use base::wait::Observation;

/// For the API server to accept a line. It may be unavailable for a while.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the cluster keeps a finished Job, in seconds, so that a late reader finds its log.
const TTL: i32 = 600;
/// A pod's request and limit. A small cluster has room for the request.
const CPU: [&str; 2] = ["100m", "1"];
const MEMORY: [&str; 2] = ["64Mi", "512Mi"];
/// Kubernetes' annotation on the pods of a Job.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The Job to run.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// The purpose of the pods, and the prefix of the Job's name.
    pub part: &'static str,
    /// Their image.
    pub image: String,
    /// Their environment variable. Not for secrets: everyone who may read pods can read it.
    pub variable: (&'static str, String),
    /// The number of pods.
    pub pods: usize,
    /// The time from creation after which the cluster stops the pods.
    pub lifetime: Duration,
    /// The grace period of their termination.
    pub grace: Duration,
}

/// Output of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodOutput {
    /// A line of its log. If the log breaks off, its lines are repeated.
    Line(String),
    /// The pod has finished, for the cluster's reason. There is no more output.
    Ended(String),
}

/// The Job cannot be created, written to, or deleted.
#[derive(Debug, Error, Diagnostic)]
pub enum IndexedJobError {
    /// The Job cannot be created, or be deleted.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Job(#[from] HelperError),
    /// A line could not be written to a pod.
    #[error("cannot write to the pod {pod}: {why}")]
    #[diagnostic(
        code(harness::job::tell),
        help("you must be allowed to create pods/attach in its namespace")
    )]
    Tell {
        /// The pod's name.
        pod: String,
        /// What the API server answered.
        why: String,
    },
}

/// A Job whose pods run. [`IndexedJob::end`] or a drop deletes it. If that fails, the cluster stops
/// it after its lifetime.
pub struct IndexedJob {
    job: HelperPod<Job>,
    /// Their names, by number.
    pods: Vec<String>,
    /// Open, so that lines in flight arrive.
    attached: Vec<AttachedProcess>,
    output: UnboundedReceiver<(usize, PodOutput)>,
    _reading: JoinSet<()>,
}

impl IndexedJob {
    /// Creates the Job in the cluster's namespace, and waits until every pod runs, for at most
    /// `deadline`. If one does not run, the Job is deleted.
    ///
    /// # Errors
    /// [`IndexedJobError`].
    pub async fn start(
        cluster: &Cluster,
        wanted: &JobSettings,
        deadline: Duration,
    ) -> Result<IndexedJob, IndexedJobError> {
        let end = Instant::now() + deadline;
        let (client, namespace) = (cluster.client().clone(), &cluster.namespace);
        let (job, with_its_pods) = (job(wanted), DeleteParams::background());
        let job = HelperPod::create(client, namespace, &job, with_its_pods, end).await?;
        let look = {
            let (cluster, pods, its_pods) = (cluster.clone(), job.pods(), job.its_pods());
            let (created, count) = (job.created().clone(), wanted.pods);
            // Each read owns its inputs: with a borrow this future would not be `Send`.
            move || {
                let selected = (pods.clone(), its_pods.clone());
                all_run(cluster.clone(), created.clone(), selected, count)
            }
        };
        let does = format!("has {} pods that run", wanted.pods);
        let (job, pods) = job.until(&does, end, look).await?;
        let (sender, output) = unbounded_channel();
        let mut reading = JoinSet::new();
        for (number, pod) in pods.iter().enumerate() {
            reading.spawn(follow(job.pods(), pod.clone(), number, sender.clone()));
        }
        Ok(IndexedJob {
            job,
            pods,
            attached: Vec::new(),
            output,
            _reading: reading,
        })
    }

    /// Writes a line to the standard input of each pod.
    ///
    /// # Errors
    /// [`IndexedJobError::Tell`].
    pub async fn write_line(&mut self, line: &str) -> Result<(), IndexedJobError> {
        let pods = self.job.pods();
        let line = format!("{line}\n");
        let written = self.pods.iter().map(|pod| write(&pods, pod, &line));
        self.attached = try_join_all(written).await?;
        Ok(())
    }

    /// Returns the next output and the number of its pod; none after all pods have finished.
    pub async fn next(&mut self) -> Option<(usize, PodOutput)> {
        self.output.recv().await
    }

    /// Deletes the Job and terminates its pods. Their output ends when they have exited.
    ///
    /// # Errors
    /// [`IndexedJobError::Job`].
    pub async fn end(&self) -> Result<(), IndexedJobError> {
        Ok(self.job.delete().await?)
    }
}

/// Returns the names of the pods by number, once all of them run.
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
    let (mut running, mut waiting) = (BTreeMap::new(), None);
    for pod in &listed {
        match (state(pod), number_of(pod)) {
            (Observation::Failed(why), _) => {
                return Observation::Failed(format!("{}: {why}", pod.name_any()));
            }
            (Observation::Ready(()), Some(number)) => {
                running.insert(number, pod.name_any());
            }
            (Observation::Ready(()), None) => {}
            (Observation::NotYet(why), _) => {
                waiting.get_or_insert(format!("; {}: {why}", pod.name_any()));
            }
        }
    }
    if running.len() == count {
        return Observation::Ready(running.into_values().collect());
    }
    let refused = match listed.len() < count {
        true => job_events::refused_pods(&cluster, &job)
            .await
            .ok()
            .flatten(),
        false => None,
    };
    let refused = refused.map(|problem| format!("; {problem}"));
    let why = refused.or(waiting).unwrap_or_default();
    Observation::NotYet(format!("{} of {count} run{why}", running.len()))
}

/// Deletes all Jobs that this process has created for `part`, after a cancellation.
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

async fn write(pods: &Api<Pod>, pod: &str, line: &str) -> Result<AttachedProcess, IndexedJobError> {
    let stdin_only = AttachParams {
        stdin: true,
        stdout: false,
        stderr: false,
        ..AttachParams::default()
    };
    let writing = async {
        let mut attached = pods
            .attach(pod, &stdin_only)
            .await
            .map_err(|error| chain(&error))?;
        let stdin = attached.stdin();
        let mut stdin = stdin.ok_or("it has no standard input")?;
        let written = stdin.write_all(line.as_bytes()).await;
        written.map_err(|error| error.to_string())?;
        Ok(attached)
    };
    let attached = match timeout(TIMEOUT, writing).await {
        Ok(attached) => attached,
        Err(_) => Err(format!("not done within {TIMEOUT:?}")),
    };
    attached.map_err(|why| IndexedJobError::Tell {
        pod: pod.to_owned(),
        why,
    })
}

/// Sends a pod's output to `sender` until the pod has finished.
async fn follow(
    pods: Api<Pod>,
    pod: String,
    number: usize,
    sender: UnboundedSender<(usize, PodOutput)>,
) {
    let line = |line| match sender.send((number, PodOutput::Line(line))) {
        Ok(()) => ControlFlow::Continue(()),
        // The receiver was dropped.
        Err(_) => ControlFlow::Break(()),
    };
    if let Some(reason) = follow_log(pods, pod, line).await {
        let _ = sender.send((number, PodOutput::Ended(reason)));
    }
}

fn job(wanted: &JobSettings) -> Job {
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
        spec.topology_spread_constraints = Some(vec![spread_over_nodes(&pod.metadata.labels)]);
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
            // The work needs every pod: if one fails, the others stop too.
            backoff_limit: Some(0),
            active_deadline_seconds: i64::try_from(wanted.lifetime.as_secs()).ok(),
            ttl_seconds_after_finished: Some(TTL),
            template: PodTemplateSpec {
                metadata: Some(template),
                spec: pod.spec,
            },
            ..Default::default()
        }),
        status: None,
    }
}

fn spread_over_nodes(labels: &Option<BTreeMap<String, String>>) -> TopologySpreadConstraint {
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
