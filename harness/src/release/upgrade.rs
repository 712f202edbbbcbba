//! `helm upgrade`, with its hooks watched beside it.
//!
//! Hooks are all that helm waits for here. What else it makes is watched after it, so
//! that no release is cut short while it is being applied.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Output;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use super::helm::{Helm, Installed, installed};
use super::{DeployError, Release};
use crate::cluster::quota::FullQuota;
use crate::cluster::rollout::Before;
use crate::cluster::trouble::Trouble;
use crate::cluster::workloads::{Lookout, Workloads};
use crate::cluster::{Cluster, ClusterError, jobs, pods};
use crate::wait::{self, Observation, WaitError};

/// Between two looks at the hooks.
const PAUSE: Duration = Duration::from_millis(300);

/// What helm has, after a SIGTERM, to write down that its release failed.
const GRACE: Duration = Duration::from_secs(10);

/// What is installed, and by whom.
pub(super) struct Upgrade<'a> {
    pub helm: &'a Helm<'a>,
    /// Held for as long as helm lives, also if it outlives us.
    pub lock: &'a File,
    pub release: &'a Release,
    /// What was there before.
    pub before: &'a Before,
    pub called_off: &'a CancellationToken,
}

impl Upgrade<'_> {
    /// Runs `helm upgrade --install` and ends it as soon as a hook's pod will never start,
    /// or it is called off.
    ///
    /// # Errors
    /// What stands in the way; helm's own words where nothing is to be seen.
    pub async fn run(
        &self,
        deadline: Duration,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Installed, DeployError> {
        if self.called_off.is_cancelled() {
            return Err(DeployError::CalledOff);
        }
        let Upgrade {
            helm,
            lock,
            release,
            before,
            called_off,
        } = *self;
        let mut command = helm.upgrade(release, deadline)?;
        // The lock for as long as helm lives. It reads nothing: the file's offset is at the
        // end of the signature.
        let lock = lock.try_clone().map_err(|source| DeployError::Directory {
            path: helm.lock_file(),
            source,
        })?;
        command.stdin(lock);
        let child = command.spawn().map_err(|error| helm.missing(error))?;
        let ending = Ending::of(&child);
        let selector = release.selector();
        let mut watch = Watch {
            cluster: helm.cluster,
            before,
            progress,
            lookout: Lookout::new(helm.cluster, &selector),
            told: BTreeSet::new(),
            quota: FullQuota::default(),
            seen: None,
        };
        let ended = child.wait_with_output();
        tokio::pin!(ended);
        let stopped = tokio::select! {
            output = &mut ended => return watch.conclude(helm, output).await,
            stopped = watch.until_hopeless(deadline) => stopped,
            () = called_off.cancelled() => Stopped::CalledOff,
        };
        ending.ask();
        // Dropped at the end of this function, it is killed.
        let output = tokio::time::timeout(GRACE, &mut ended).await;
        let how = match output {
            Ok(_) => "it was stopped for that".to_owned(),
            Err(_) => format!("it was killed, as it did not stop within {GRACE:?}"),
        };
        Err(watch.explain(stopped, how).await)
    }
}

/// A child that can be asked to end.
struct Ending(Option<Pid>);

impl Ending {
    fn of(child: &Child) -> Ending {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Ending(pid.map(Pid::from_raw))
    }

    /// To its group, whose leader it is or is tied to us by. Only while the child is not
    /// waited for to its end: its id is another's after.
    fn ask(self) {
        if let Some(pid) = self.0 {
            // It may have ended just now, but is still to be reaped.
            let _ = killpg(pid, Signal::SIGTERM);
        }
    }
}

/// Why helm was stopped.
enum Stopped {
    Trouble(Trouble),
    Cluster(ClusterError),
    TooLong(WaitError),
    CalledOff,
}

struct Watch<'a> {
    cluster: &'a Cluster,
    before: &'a Before,
    progress: &'a (dyn Fn(&str) + Sync),
    lookout: Lookout<'a>,
    /// Every trouble that was told of.
    told: BTreeSet<String>,
    quota: FullQuota,
    /// What stood in the way as of the last look.
    seen: Option<Trouble>,
}

impl Watch<'_> {
    async fn until_hopeless(&mut self, deadline: Duration) -> Stopped {
        let what = "helm is done, its hooks included";
        let met = wait::until(what, deadline, PAUSE, async || match self.look().await {
            Ok(Some(trouble)) if trouble.hopeless => Observation::Ready(Stopped::Trouble(trouble)),
            Ok(Some(trouble)) => Observation::NotYet(trouble.to_string()),
            Ok(None) => Observation::NotYet("nothing that stands in its way".to_owned()),
            Err(error) => Observation::Ready(Stopped::Cluster(error)),
        });
        met.await.unwrap_or_else(Stopped::TooLong)
    }

    /// The worst of what is new. A trouble that is new is told.
    async fn look(&mut self) -> Result<Option<Trouble>, ClusterError> {
        let workloads = match self.lookout.look().await? {
            Ok(workloads) => workloads,
            // For a while it may not answer; helm says so itself if it cannot go on.
            Err(_) => return Ok(None),
        };
        let mut troubles = self.of_hooks(&workloads).await?;
        let hopeless = troubles.iter().position(|trouble| trouble.hopeless);
        for trouble in &troubles {
            let line = trouble.to_string();
            if !trouble.hopeless && self.told.insert(line.clone()) {
                (self.progress)(&line);
            }
        }
        self.seen = match troubles.is_empty() {
            true => None,
            false => Some(troubles.swap_remove(hopeless.unwrap_or(0))),
        };
        if self.quota.is_hopeless(self.seen.as_ref(), &workloads) {
            self.seen.iter_mut().for_each(|it| it.hopeless = true);
        }
        Ok(self.seen.clone())
    }

    async fn of_hooks(&self, workloads: &Workloads) -> Result<Vec<Trouble>, ClusterError> {
        let mut troubles = Vec::new();
        for job in self.before.new_jobs(workloads) {
            let mut pods = workloads.pods_of(job).peekable();
            if pods.peek().is_none() {
                troubles.extend(jobs::refused_pods(self.cluster, job).await?);
            }
            troubles.extend(pods.filter_map(pods::trouble));
        }
        Ok(troubles)
    }

    /// What helm made of it, once it ended by itself. A hook that failed is explained by
    /// its pod.
    async fn conclude(
        &mut self,
        helm: &Helm<'_>,
        output: std::io::Result<Output>,
    ) -> Result<Installed, DeployError> {
        let words = match helm.judged(output) {
            Ok(text) => return installed(&text),
            Err(DeployError::Helm { words }) => words,
            Err(error) => return Err(error),
        };
        // Once more: the pod may have failed since the last look.
        let trouble = self.look().await.unwrap_or_default();
        match trouble {
            Some(trouble) => Err(self.of_trouble(trouble, Some(words)).await),
            None => Err(DeployError::Helm { words }),
        }
    }

    async fn explain(&mut self, stopped: Stopped, how: String) -> DeployError {
        match stopped {
            Stopped::CalledOff => DeployError::CalledOff,
            Stopped::Cluster(error) => DeployError::Cluster(error),
            Stopped::Trouble(trouble) => self.of_trouble(trouble, Some(how)).await,
            Stopped::TooLong(wait) => DeployError::TooLong {
                trouble: self.seen.take().map(Box::new),
                wait,
            },
        }
    }

    async fn of_trouble(&self, trouble: Trouble, helm: Option<String>) -> DeployError {
        let trouble = pods::with_last_words(self.cluster, trouble).await;
        DeployError::Trouble {
            trouble: Box::new(trouble),
            helm,
        }
    }
}
