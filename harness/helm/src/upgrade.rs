//! Runs `helm upgrade`, and watches its hooks meanwhile.
//!
//! helm waits for hooks only. All other objects are watched after it has exited: a release must not
//! be stopped while helm applies it.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Output;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

use super::command::{Helm, HelmRelease, installed};
use super::{DeployError, Release};
use base::wait::{self, Observation, WaitError};
use kubernetes::quota::FullQuota;
use kubernetes::rollout::Before;
use kubernetes::workload_problem::WorkloadProblem;
use kubernetes::workloads::{WorkloadReader, Workloads};
use kubernetes::{Cluster, ClusterError, job_events, pods};

/// Between two reads of the hooks.
const PAUSE: Duration = Duration::from_millis(300);

/// How long helm has, after a SIGTERM, to record that its release failed.
const GRACE: Duration = Duration::from_secs(10);

/// One `helm upgrade`.
pub(super) struct Upgrade<'a> {
    pub helm: &'a Helm<'a>,
    /// Held while helm runs, even if it outlives us.
    pub lock: &'a File,
    pub release: &'a Release,
    /// The objects before the upgrade.
    pub before: &'a Before,
    pub cancellation: &'a CancellationToken,
}

impl Upgrade<'_> {
    /// Runs `helm upgrade --install`. Stops it if a hook's pod will never start, or on
    /// cancellation.
    ///
    /// # Errors
    /// What blocks the upgrade, or helm's own message.
    pub async fn run(
        &self,
        deadline: Duration,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<HelmRelease, DeployError> {
        if self.cancellation.is_cancelled() {
            return Err(DeployError::Cancelled);
        }
        let helm = self.helm;
        let mut command = helm.upgrade(self.release, deadline)?;
        // The lock lives as long as helm. helm reads nothing from it: the file's offset is at the
        // end of the signature.
        let lock = self.lock.try_clone();
        command.stdin(lock.map_err(|source| DeployError::Directory {
            path: helm.lock_file(),
            source,
        })?);
        let child = command
            .spawn()
            .map_err(|error| helm.program.missing(error))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let mut watch = HookWatch {
            cluster: helm.cluster,
            before: self.before,
            progress,
            lookout: WorkloadReader::new(helm.cluster, self.release.workloads()),
            reported: BTreeSet::new(),
            quota: FullQuota::default(),
            last: None,
        };
        let exited = child.wait_with_output();
        tokio::pin!(exited);
        let reason = tokio::select! {
            output = &mut exited => return watch.conclude(helm, output).await,
            reason = watch.until_permanent_problem(deadline) => reason,
            () = self.cancellation.cancelled() => StopReason::Cancelled,
        };
        // The child leads its process group, or is tied to us by the leader. It is not reaped yet,
        // so no other process has its id. It may have exited just now.
        if let Some(pid) = pid {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
        }
        // Dropping it at the end of this function kills it.
        let output = tokio::time::timeout(GRACE, &mut exited).await;
        let how = match output {
            Ok(_) => "it was stopped for that".to_owned(),
            Err(_) => format!("it was killed, as it did not stop within {GRACE:?}"),
        };
        Err(watch.explain(reason, how).await)
    }
}

/// Why helm was stopped.
enum StopReason {
    Problem(WorkloadProblem),
    Cluster(ClusterError),
    TooLong(WaitError),
    Cancelled,
}

struct HookWatch<'a> {
    cluster: &'a Cluster,
    before: &'a Before,
    progress: &'a (dyn Fn(&str) + Sync),
    lookout: WorkloadReader<'a>,
    /// Every problem that was reported.
    reported: BTreeSet<String>,
    quota: FullQuota,
    /// The problem of the last read.
    last: Option<WorkloadProblem>,
}

impl HookWatch<'_> {
    async fn until_permanent_problem(&mut self, deadline: Duration) -> StopReason {
        let what = "helm is done, its hooks included";
        let met = wait::until(what, deadline, PAUSE, async || match self.read().await {
            Ok(Some(problem)) if problem.permanent => {
                Observation::Ready(StopReason::Problem(problem))
            }
            Ok(Some(problem)) => Observation::NotYet(problem.to_string()),
            Ok(None) => Observation::NotYet("nothing blocks it".to_owned()),
            Err(error) => Observation::Ready(StopReason::Cluster(error)),
        });
        met.await.unwrap_or_else(StopReason::TooLong)
    }

    /// The worst problem of new hooks. A new problem is reported.
    async fn read(&mut self) -> Result<Option<WorkloadProblem>, ClusterError> {
        // The API server may be away for a while; helm reports if it cannot continue.
        let Ok(workloads) = self.lookout.look().await? else {
            return Ok(None);
        };
        let mut problems = self.of_hooks(&workloads).await?;
        let permanent = problems.iter().position(|problem| problem.permanent);
        for problem in &problems {
            let line = problem.to_string();
            if !problem.permanent && self.reported.insert(line.clone()) {
                (self.progress)(&line);
            }
        }
        self.last = match problems.is_empty() {
            true => None,
            false => Some(problems.swap_remove(permanent.unwrap_or(0))),
        };
        if self.quota.is_permanent(self.last.as_ref(), &workloads) {
            self.last.iter_mut().for_each(|it| it.permanent = true);
        }
        Ok(self.last.clone())
    }

    async fn of_hooks(&self, workloads: &Workloads) -> Result<Vec<WorkloadProblem>, ClusterError> {
        let mut problems = Vec::new();
        for job in self.before.new_jobs(workloads) {
            let mut pods = workloads.pods_of(job).peekable();
            if pods.peek().is_none() {
                problems.extend(job_events::refused_pods(self.cluster, job).await?);
            }
            problems.extend(pods.filter_map(pods::problem));
        }
        Ok(problems)
    }

    /// Returns the result of a helm that exited by itself. The pod of a failed hook explains it.
    async fn conclude(
        &mut self,
        helm: &Helm<'_>,
        output: std::io::Result<Output>,
    ) -> Result<HelmRelease, DeployError> {
        let words = match helm.program.stdout_of(output) {
            Ok(text) => return installed(&text),
            Err(DeployError::Helm { words }) => words,
            Err(error) => return Err(error),
        };
        // The pod may have failed since the last read.
        match self.read().await.unwrap_or_default() {
            Some(problem) => Err(self.of_problem(problem, Some(words)).await),
            None => Err(DeployError::Helm { words }),
        }
    }

    async fn explain(&mut self, reason: StopReason, how: String) -> DeployError {
        match reason {
            StopReason::Cancelled => DeployError::Cancelled,
            StopReason::Cluster(error) => DeployError::Cluster(error),
            StopReason::Problem(problem) => self.of_problem(problem, Some(how)).await,
            StopReason::TooLong(wait) => DeployError::TooLong {
                problem: self.last.take().map(Box::new),
                wait,
            },
        }
    }

    async fn of_problem(&self, problem: WorkloadProblem, helm: Option<String>) -> DeployError {
        let problem = pods::with_last_lines(self.cluster, problem).await;
        DeployError::Problem {
            problem: Box::new(problem),
            helm,
        }
    }
}
