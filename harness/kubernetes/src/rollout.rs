//! Whether a rollout is complete, or cannot complete.
//!
//! Deployments are judged more strictly than by `kubectl rollout status`: no old pod may remain.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status>

mod daemon_set;
mod stateful_set;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use kube::{Resource, ResourceExt};
use miette::Diagnostic;
use thiserror::Error;
use tokio::time::Instant;

use super::pods;
use super::quota::FullQuota;
use super::workload_problem::{Cause, WorkloadProblem};
use super::workloads::{Selection, WorkloadReader, Workloads};
use super::{Cluster, ClusterError};
use base::wait::{self, Observation, WaitError};

/// Between two reads. Each is six lists of the namespace.
const PAUSE: Duration = Duration::from_millis(300);

/// How long a problem from before the rollout may last. The kubelet and the ReplicaSet controller
/// retry after growing pauses.
const OLD_PROBLEM: Duration = Duration::from_secs(60);

/// A rollout that did not become complete.
#[derive(Debug, Error, Diagnostic)]
pub enum RolloutError {
    /// It cannot complete.
    #[error("{0}")]
    Problem(Box<WorkloadProblem>),
    /// It did not complete in time.
    #[error("{wait}{}", blocked_by(.problem.as_deref()))]
    TooLong {
        /// The condition that was waited for, and the last state.
        wait: WaitError,
        /// What blocked it at the end, if known.
        problem: Option<Box<WorkloadProblem>>,
    },
    /// The API server refused a request, or did not answer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
}

/// Formats the problem for the end of a message; empty if there is none.
pub fn blocked_by(problem: Option<&WorkloadProblem>) -> String {
    problem.map_or_else(String::new, |problem| format!("; blocked by: {problem}"))
}

/// The state of one workload's rollout.
#[derive(Clone, Debug, PartialEq)]
pub enum Rollout {
    /// Every replica has the newest template, is ready and available, and no old pod remains.
    Complete,
    /// Not complete yet.
    InProgress {
        /// `1/2 ready`.
        so_far: String,
        /// What blocks it, and may pass.
        problem: Option<WorkloadProblem>,
    },
    /// It cannot complete.
    Stuck(WorkloadProblem),
}

/// The objects from before a release, whose state is not its result.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The UIDs of the Jobs.
    jobs: BTreeSet<String>,
    /// The objects that had a problem, by kubectl's name.
    with_problems: BTreeSet<String>,
}

impl Before {
    /// Records the objects that exist now.
    pub fn of(workloads: &Workloads) -> Before {
        let jobs = workloads
            .jobs
            .iter()
            .filter_map(|it| it.metadata.uid.clone());
        let rollouts = rollouts(workloads).into_iter();
        let stuck = rollouts.filter_map(|it| match it.state {
            Rollout::Stuck(problem) => Some(problem.object),
            _ => None,
        });
        let pods = workloads.pods.iter().filter_map(pods::problem);
        Before {
            jobs: jobs.collect(),
            with_problems: stuck.chain(pods.map(|problem| problem.object)).collect(),
        }
    }

    /// Returns the Jobs that did not exist before.
    pub fn new_jobs<'a>(&'a self, workloads: &'a Workloads) -> impl Iterator<Item = &'a Job> {
        workloads.jobs.iter().filter(|job| {
            let uid = job.metadata.uid.as_ref();
            uid.is_some_and(|uid| !self.jobs.contains(uid))
        })
    }
}

/// The strategy with which a controller replaces no pod by itself.
const ON_DELETE: &str = "OnDelete";

/// The status still describes the previous template.
fn not_begun() -> Rollout {
    Rollout::InProgress {
        so_far: "not begun".to_owned(),
        problem: None,
    }
}

/// A workload of a release.
struct WorkloadRollout {
    /// `api-gateway`, or `statefulset/database`.
    name: String,
    /// The number of its pods.
    wanted: i32,
    state: Rollout,
}

/// The rollouts of all Deployments, StatefulSets and DaemonSets.
fn rollouts(workloads: &Workloads) -> Vec<WorkloadRollout> {
    let deployments = workloads.deployments.iter().map(|it| WorkloadRollout {
        name: it.name_any(),
        wanted: wanted(it),
        state: state_of(workloads, it),
    });
    let stateful_sets = workloads.stateful_sets.iter().map(|it| WorkloadRollout {
        name: format!("statefulset/{}", it.name_any()),
        wanted: stateful_set::wanted(it),
        state: stateful_set::state_of(workloads, it),
    });
    let daemon_sets = workloads.daemon_sets.iter().map(|it| WorkloadRollout {
        name: format!("daemonset/{}", it.name_any()),
        wanted: daemon_set::wanted(it),
        state: daemon_set::state_of(workloads, it),
    });
    deployments
        .chain(stateful_sets)
        .chain(daemon_sets)
        .collect()
}

/// The state of a StatefulSet or a DaemonSet that is not complete: its pods have the reason.
fn incomplete(workloads: &Workloads, owner: &impl Resource, so_far: String) -> Rollout {
    let problems = workloads.pods_of(owner).filter_map(pods::problem);
    match problems.min_by_key(|it| !it.permanent) {
        Some(problem) if problem.permanent => Rollout::Stuck(problem),
        problem => Rollout::InProgress { so_far, problem },
    }
}

/// Returns the state of a Deployment's rollout.
pub fn state_of(workloads: &Workloads, deployment: &Deployment) -> Rollout {
    let under_way = |so_far: String, problem| Rollout::InProgress { so_far, problem };
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return not_begun();
    }
    let old = workloads.old_pods(deployment);
    let wanted = wanted(deployment);
    if is_complete(&status, wanted) && old == 0 {
        return Rollout::Complete;
    }
    let newest = workloads.newest_replica_set(deployment);
    let problem = newest
        .into_iter()
        .flat_map(|it| workloads.pods_of(it))
        .filter_map(pods::problem)
        .chain(newest.and_then(failed_create))
        .min_by_key(|it| !it.permanent);
    let problem = match problem {
        Some(problem) if problem.permanent => return Rollout::Stuck(problem),
        other => other,
    };
    if let Some(stalled) = stalled(deployment, &status) {
        // A pod's reason is more specific than the Deployment's condition.
        let mut new_pods = newest.into_iter().flat_map(|it| workloads.pods_of(it));
        let problem = problem.or_else(|| new_pods.find_map(pods::unready));
        let problem = problem.map(|it| WorkloadProblem {
            permanent: true,
            ..it
        });
        return Rollout::Stuck(problem.unwrap_or(stalled));
    }
    let ready = newest.and_then(|it| it.status.as_ref()?.ready_replicas);
    let ready = ready.unwrap_or(0);
    let so_far = match old {
        0 => format!("{ready}/{wanted} ready"),
        _ => format!("{ready}/{wanted} ready, {old} old"),
    };
    under_way(so_far, problem)
}

fn wanted(deployment: &Deployment) -> i32 {
    // Kubernetes' own default.
    deployment.spec.replicas.unwrap_or(1)
}

fn is_complete(status: &DeploymentStatus, wanted: i32) -> bool {
    [
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
    ]
    .into_iter()
    .all(|count| count.unwrap_or(0) == wanted)
}

fn stalled(deployment: &Deployment, status: &DeploymentStatus) -> Option<WorkloadProblem> {
    let condition = status.conditions.iter().flatten().find(|it| {
        it.type_.as_deref() == Some("Progressing")
            && it.status.as_deref() == Some("False")
            && it.reason.as_deref() == Some("ProgressDeadlineExceeded")
    })?;
    let object = format!("deployment/{}", deployment.name_any());
    let reason = "ProgressDeadlineExceeded".to_owned();
    let message = condition.message.clone().unwrap_or_default();
    Some(WorkloadProblem {
        permanent: true,
        ..WorkloadProblem::new(object, Cause::Stalled, reason, message)
    })
}

/// Returns why a ReplicaSet cannot create its pods.
fn failed_create(replica_set: &ReplicaSet) -> Option<WorkloadProblem> {
    let conditions = replica_set.status.as_ref()?.conditions.iter().flatten();
    let condition = conditions.into_iter().find(|it| {
        it.type_.as_deref() == Some("ReplicaFailure") && it.status.as_deref() == Some("True")
    })?;
    Some(WorkloadProblem::no_pods(
        format!("replicaset/{}", replica_set.name_any()),
        condition.reason.clone().unwrap_or_default(),
        condition.message.clone().unwrap_or_default(),
    ))
}

/// Waits until all selected Deployments, StatefulSets and DaemonSets are complete, and at least one
/// exists. `progress` receives a line whenever one changes: `api-gateway 1/2 ready`.
///
/// # Errors
/// [`RolloutError`]: immediately if waiting does not help, or after `deadline`.
pub async fn complete(
    cluster: &Cluster,
    selection: impl Into<Selection>,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), RolloutError> {
    complete_after(&Before::default(), cluster, selection, deadline, progress).await
}

/// As [`complete`], but a problem from before may last for a while.
///
/// # Errors
/// As [`complete`].
pub async fn complete_after(
    before: &Before,
    cluster: &Cluster,
    selection: impl Into<Selection>,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), RolloutError> {
    let selection = selection.into();
    let what = format!("all workloads of {selection} are complete");
    let mut watch = RolloutWatch {
        before,
        progress,
        lookout: WorkloadReader::new(cluster, selection),
        since: Instant::now(),
        reported: BTreeMap::new(),
        quota: FullQuota::default(),
        problem: None,
        unready: None,
        error: None,
    };
    let waited = wait::until(what, deadline, PAUSE, async || watch.read().await).await;
    let Err(wait) = waited else {
        return Ok(());
    };
    if let Some(error) = watch.error {
        return Err(RolloutError::Cluster(error));
    }
    let problem = match watch.problem.or(watch.unready) {
        Some(problem) => Some(Box::new(pods::with_last_lines(cluster, problem).await)),
        None => None,
    };
    match (wait, problem) {
        (WaitError::Failed { .. }, Some(problem)) => Err(RolloutError::Problem(problem)),
        (wait, problem) => Err(RolloutError::TooLong { wait, problem }),
    }
}

struct RolloutWatch<'a> {
    before: &'a Before,
    progress: &'a (dyn Fn(&str) + Sync),
    lookout: WorkloadReader<'a>,
    since: Instant,
    /// The last line about each workload.
    reported: BTreeMap<String, String>,
    quota: FullQuota,
    /// What blocked it at the last read.
    problem: Option<WorkloadProblem>,
    /// A pod that was not ready at the last read.
    unready: Option<WorkloadProblem>,
    /// Why another request does not help.
    error: Option<ClusterError>,
}

impl RolloutWatch<'_> {
    async fn read(&mut self) -> Observation<()> {
        match self.lookout.look().await {
            Ok(Ok(workloads)) => self.evaluate(&workloads),
            Ok(Err(away)) => Observation::NotYet(away.to_string()),
            Err(error) => {
                let reason = error.to_string();
                self.error = Some(error);
                Observation::Failed(reason)
            }
        }
    }

    fn evaluate(&mut self, workloads: &Workloads) -> Observation<()> {
        let rollouts = rollouts(workloads);
        if rollouts.is_empty() {
            let none = "no Deployment, StatefulSet or DaemonSet";
            return Observation::NotYet(none.to_owned());
        }
        self.problem = None;
        self.unready = workloads.staying_pods().find_map(pods::unready);
        let mut missing = Vec::new();
        for WorkloadRollout {
            name,
            wanted,
            state,
        } in rollouts
        {
            let (so_far, problem) = match state {
                Rollout::Complete => {
                    self.report(&name, format!("{name} {wanted}/{wanted} ready"));
                    continue;
                }
                Rollout::Stuck(problem) if self.is_old(&problem) => {
                    ("as before".to_owned(), Some(problem))
                }
                Rollout::Stuck(problem) => {
                    let reason = problem.to_string();
                    self.problem = Some(problem);
                    return Observation::Failed(reason);
                }
                Rollout::InProgress { so_far, problem } => (so_far, problem),
            };
            let line = match &problem {
                Some(problem) => format!("{name} {so_far}: {problem}"),
                None => format!("{name} {so_far}"),
            };
            self.report(&name, line.clone());
            missing.push(line);
            self.keep(problem);
        }
        if self.quota.is_permanent(self.problem.as_ref(), workloads) {
            return Observation::Failed(missing.join("; "));
        }
        match missing.is_empty() {
            true => Observation::Ready(()),
            false => Observation::NotYet(missing.join("; ")),
        }
    }

    /// Keeps the first problem of a read, but prefers a full quota, which may become permanent.
    fn keep(&mut self, problem: Option<WorkloadProblem>) {
        let is_quota = |it: &WorkloadProblem| it.cause == Cause::Quota;
        if self.problem.is_none() || problem.as_ref().is_some_and(is_quota) {
            self.problem = problem;
        }
    }

    fn is_old(&self, problem: &WorkloadProblem) -> bool {
        self.before.with_problems.contains(&problem.object) && self.since.elapsed() < OLD_PROBLEM
    }

    fn report(&mut self, name: &str, line: String) {
        if self.reported.get(name) != Some(&line) {
            (self.progress)(&line);
            self.reported.insert(name.to_owned(), line);
        }
    }
}

#[cfg(test)]
mod tests;
