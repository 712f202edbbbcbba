//! Whether a rollout is truly complete, and when it never will be.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status>

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use miette::Diagnostic;
use thiserror::Error;
use tokio::time::Instant;

use super::pods;
use super::quota::FullQuota;
use super::trouble::{Cause, Trouble};
use super::workloads::{Lookout, Workloads};
use super::{Cluster, ClusterError};
use crate::wait::{self, Observation, WaitError};

/// Between two looks. Each is four small lists.
const PAUSE: Duration = Duration::from_millis(300);

/// How long what was in trouble before the rollout may stay so. The kubelet and the
/// ReplicaSet controller try again by themselves, after pauses that have grown.
const OLD_TROUBLE: Duration = Duration::from_secs(60);

/// A rollout that did not become complete.
#[derive(Debug, Error, Diagnostic)]
pub enum RolloutError {
    /// It never will be.
    #[error("{0}")]
    Trouble(Box<Trouble>),
    /// It was not within the time allowed.
    #[error("{wait}{}", in_the_way(.trouble.as_deref()))]
    TooLong {
        /// What was waited for, and the last state seen.
        wait: WaitError,
        /// What stood in the way at the end, if that was to be seen.
        trouble: Option<Box<Trouble>>,
    },
    /// The API server could not be asked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
}

/// For the end of a message.
pub(crate) fn in_the_way(trouble: Option<&Trouble>) -> String {
    trouble.map_or_else(String::new, |trouble| format!("; in the way: {trouble}"))
}

/// What is known of one Deployment's rollout.
#[derive(Clone, Debug, PartialEq)]
pub enum Rollout {
    /// Every replica is of the newest template, ready and available, and no other is left.
    Complete,
    /// Not yet; how far it is, and what stands in the way although it may pass.
    UnderWay {
        /// `1/2 ready`.
        so_far: String,
        /// What may pass.
        trouble: Option<Trouble>,
    },
    /// It will not become complete by waiting.
    Stuck(Trouble),
}

/// What was there before a release was deployed, and so says nothing about it.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The ids of the Jobs.
    jobs: BTreeSet<String>,
    /// The objects that were in trouble, by kubectl's name.
    troubled: BTreeSet<String>,
}

impl Before {
    /// Remembers what is there now.
    pub fn of(workloads: &Workloads) -> Before {
        let jobs = workloads
            .jobs
            .iter()
            .filter_map(|it| it.metadata.uid.clone());
        let stuck = workloads.deployments.iter().filter_map(|deployment| {
            match judge(workloads, deployment) {
                Rollout::Stuck(trouble) => Some(trouble.object),
                _ => None,
            }
        });
        let pods = workloads.pods.iter().filter_map(pods::trouble);
        Before {
            jobs: jobs.collect(),
            troubled: stuck.chain(pods.map(|trouble| trouble.object)).collect(),
        }
    }

    /// The Jobs that were not there before.
    pub fn new_jobs<'a>(&'a self, workloads: &'a Workloads) -> impl Iterator<Item = &'a Job> {
        workloads.jobs.iter().filter(|job| {
            let uid = job.metadata.uid.as_ref();
            uid.is_some_and(|uid| !self.jobs.contains(uid))
        })
    }
}

/// How far a Deployment's rollout is.
pub fn judge(workloads: &Workloads, deployment: &Deployment) -> Rollout {
    let under_way = |so_far: String, trouble| Rollout::UnderWay { so_far, trouble };
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        // All that is said of it is about what it was before.
        return under_way("not begun".to_owned(), None);
    }
    let old = workloads.old_pods(deployment);
    let wanted = wanted(deployment);
    if is_complete(&status, wanted) && old == 0 {
        return Rollout::Complete;
    }
    let newest = workloads.newest_replica_set(deployment);
    let mut troubles: Vec<Trouble> = newest
        .into_iter()
        .flat_map(|it| workloads.pods_of(it))
        .filter_map(pods::trouble)
        .chain(newest.and_then(failed_create))
        .collect();
    if let Some(hopeless) = troubles.iter().position(|it| it.hopeless) {
        return Rollout::Stuck(troubles.swap_remove(hopeless));
    }
    let trouble = troubles.into_iter().next();
    if let Some(stalled) = stalled(deployment, &status) {
        // A pod that says why says more than a Deployment that says that.
        let unready = newest.into_iter().flat_map(|it| workloads.pods_of(it));
        let trouble = trouble.or_else(|| unready.into_iter().find_map(pods::unready));
        let trouble = trouble.map(|it| Trouble {
            hopeless: true,
            ..it
        });
        return Rollout::Stuck(trouble.unwrap_or(stalled));
    }
    let ready = newest.and_then(|it| it.status.as_ref()?.ready_replicas);
    let ready = ready.unwrap_or(0);
    let so_far = match old {
        0 => format!("{ready}/{wanted} ready"),
        _ => format!("{ready}/{wanted} ready, {old} old"),
    };
    under_way(so_far, trouble)
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

fn stalled(deployment: &Deployment, status: &DeploymentStatus) -> Option<Trouble> {
    let condition = status.conditions.iter().flatten().find(|it| {
        it.type_.as_deref() == Some("Progressing")
            && it.status.as_deref() == Some("False")
            && it.reason.as_deref() == Some("ProgressDeadlineExceeded")
    })?;
    Some(Trouble {
        object: format!("deployment/{}", deployment.name_any()),
        container: None,
        image: None,
        restarts: 0,
        cause: Cause::Stalled,
        reason: "ProgressDeadlineExceeded".to_owned(),
        words: condition.message.clone().unwrap_or_default(),
        log: Vec::new(),
        hopeless: true,
    })
}

/// A ReplicaSet that may not make its pods.
fn failed_create(replica_set: &ReplicaSet) -> Option<Trouble> {
    let conditions = replica_set.status.as_ref()?.conditions.iter().flatten();
    let condition = conditions.into_iter().find(|it| {
        it.type_.as_deref() == Some("ReplicaFailure") && it.status.as_deref() == Some("True")
    })?;
    Some(Trouble::no_pods(
        format!("replicaset/{}", replica_set.name_any()),
        condition.reason.clone().unwrap_or_default(),
        condition.message.clone().unwrap_or_default(),
    ))
}

/// Waits until all Deployments that `selector` (a label selector) selects are complete,
/// at least one. `progress` gets a line whenever one is further: `api-gateway 1/2 ready`.
///
/// # Errors
/// [`RolloutError`]: at once where waiting does not help, with the last state seen at
/// the deadline.
pub async fn complete(
    cluster: &Cluster,
    selector: &str,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), RolloutError> {
    complete_after(&Before::default(), cluster, selector, deadline, progress).await
}

/// [`complete`], with patience for what was in trouble before.
///
/// # Errors
/// As [`complete`].
pub async fn complete_after(
    before: &Before,
    cluster: &Cluster,
    selector: &str,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), RolloutError> {
    let mut watch = Watch {
        before,
        progress,
        lookout: Lookout::new(cluster, selector),
        since: Instant::now(),
        told: BTreeMap::new(),
        quota: FullQuota::default(),
        trouble: None,
        unready: None,
        error: None,
    };
    let what = format!("all Deployments of {selector} are complete");
    let waited = wait::until(what, deadline, PAUSE, async || watch.look().await).await;
    let Err(wait) = waited else {
        return Ok(());
    };
    if let Some(error) = watch.error {
        return Err(RolloutError::Cluster(error));
    }
    let trouble = match watch.trouble.or(watch.unready) {
        Some(trouble) => Some(Box::new(pods::with_last_words(cluster, trouble).await)),
        None => None,
    };
    match (wait, trouble) {
        (WaitError::Hopeless { .. }, Some(trouble)) => Err(RolloutError::Trouble(trouble)),
        (wait, trouble) => Err(RolloutError::TooLong { wait, trouble }),
    }
}

struct Watch<'a> {
    before: &'a Before,
    progress: &'a (dyn Fn(&str) + Sync),
    lookout: Lookout<'a>,
    since: Instant,
    /// The last line about each Deployment.
    told: BTreeMap<String, String>,
    quota: FullQuota,
    /// What stands in the way as of the last look.
    trouble: Option<Trouble>,
    /// A pod that was not ready as of the last look.
    unready: Option<Trouble>,
    /// Why the API server can be asked no more.
    error: Option<ClusterError>,
}

impl Watch<'_> {
    async fn look(&mut self) -> Observation<()> {
        match self.lookout.look().await {
            Ok(Ok(workloads)) => self.judge(&workloads),
            Ok(Err(away)) => Observation::NotYet(away.to_string()),
            Err(error) => {
                let reason = error.to_string();
                self.error = Some(error);
                Observation::Hopeless(reason)
            }
        }
    }

    fn judge(&mut self, workloads: &Workloads) -> Observation<()> {
        if workloads.deployments.is_empty() {
            return Observation::NotYet("no Deployment".to_owned());
        }
        self.trouble = None;
        self.unready = workloads.staying_pods().find_map(pods::unready);
        let mut missing = Vec::new();
        for deployment in &workloads.deployments {
            let name = deployment.name_any();
            let (so_far, trouble) = match judge(workloads, deployment) {
                Rollout::Complete => {
                    let wanted = wanted(deployment);
                    self.tell(&name, format!("{name} {wanted}/{wanted} ready"));
                    continue;
                }
                Rollout::Stuck(trouble) if self.is_old(&trouble) => {
                    ("as before".to_owned(), Some(trouble))
                }
                Rollout::Stuck(trouble) => {
                    let reason = trouble.to_string();
                    self.trouble = Some(trouble);
                    return Observation::Hopeless(reason);
                }
                Rollout::UnderWay { so_far, trouble } => (so_far, trouble),
            };
            let line = match &trouble {
                Some(trouble) => format!("{name} {so_far}: {trouble}"),
                None => format!("{name} {so_far}"),
            };
            self.tell(&name, line.clone());
            missing.push(line);
            self.keep(trouble);
        }
        if self.quota.is_hopeless(self.trouble.as_ref(), workloads) {
            return Observation::Hopeless(missing.join("; "));
        }
        match missing.is_empty() {
            true => Observation::Ready(()),
            false => Observation::NotYet(missing.join("; ")),
        }
    }

    /// The first of a look, but for a full quota, which may turn out to be hopeless.
    fn keep(&mut self, trouble: Option<Trouble>) {
        let is_quota = |it: &Trouble| it.cause == Cause::Quota;
        if self.trouble.is_none() || trouble.as_ref().is_some_and(is_quota) {
            self.trouble = trouble;
        }
    }

    fn is_old(&self, trouble: &Trouble) -> bool {
        self.before.troubled.contains(&trouble.object) && self.since.elapsed() < OLD_TROUBLE
    }

    fn tell(&mut self, name: &str, line: String) {
        if self.told.get(name) != Some(&line) {
            (self.progress)(&line);
            self.told.insert(name.to_owned(), line);
        }
    }
}

#[cfg(test)]
mod tests;
