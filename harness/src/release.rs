//! A release of the platform: installed and upgraded by helm, and watched until it
//! truly runs.
//!
//! helm waits with its eyes closed: it counts what may be unavailable as done, and it
//! sits out a pod that will never start until its timeout (helm#8660, helm#7429). So it
//! is not asked to wait; the pods are watched beside it and after it.

pub mod difference;
pub mod error;
mod held_still;
mod helm;
pub mod live;
mod mend;
mod upgrade;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::cluster::rollout::{self, Before};
use crate::cluster::workloads::Workloads;
use crate::file_lock::{self, LockError};
pub use difference::difference;
pub use error::DeployError;
use held_still::HeldStill;
use helm::Helm;
use live::Live;

/// The platform's release, by its name.
pub const PLATFORM: &str = "trii-platform";

/// The platform's chart, in the repository.
pub const CHART: &str = "fixtures/helm/trii-platform";

/// The chart's `metricsPort`: of each pod's metrics, health and faults.
pub const METRICS_PORT: u16 = 9090;

/// The label selector of all that belongs to the release of this name.
pub fn selector_of(name: &str) -> String {
    format!("app.kubernetes.io/instance={name}")
}

/// A release as it should be.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its name in helm's sense, and its objects' `app.kubernetes.io/instance`.
    pub name: String,
    /// The chart's folder.
    pub chart: PathBuf,
    /// Values files, later ones over earlier ones.
    pub values_files: Vec<PathBuf>,
    /// Values over all files; they go to helm by a private file, not its command line.
    pub overrides: serde_json::Value,
}

/// A release that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// helm's number of it, from 1.
    pub revision: u32,
    /// The version that its services say they are: `v2.1.0`.
    pub version: String,
    /// Whether its objects are others than those of the revision before.
    pub changed: bool,
    /// What is released blue-green and was left at another version.
    pub left: Vec<Live>,
    /// What is released blue-green, and has a new configuration waiting in its idle colour.
    pub reconfigured: Vec<Live>,
}

impl Release {
    /// The platform's, by its chart and these values files of the repository.
    pub fn of_platform(
        workspace: &Path,
        values: &[PathBuf],
        overrides: serde_json::Value,
    ) -> Release {
        Release {
            name: PLATFORM.to_owned(),
            chart: workspace.join(CHART),
            values_files: values.iter().map(|file| workspace.join(file)).collect(),
            overrides,
        }
    }

    /// The same, with what is live left alone.
    fn around(&self, live: &[Live]) -> Release {
        Release {
            overrides: live::left_alone(&self.overrides, live),
            ..self.clone()
        }
    }

    /// The label selector of all that belongs to it.
    pub fn selector(&self) -> String {
        selector_of(&self.name)
    }
}

/// Installs or upgrades `release` by the program `helm`, and waits until its rollout is
/// complete; all within `deadline`. What is live of services that are released blue-green
/// keeps its version, unless the release's `overrides` name another: that the chart refuses;
/// none of them may be under release by a deployer.
/// `progress` gets a line whenever something is further.
/// A helm that is at work is killed when the caller goes away, or this process dies; on a
/// cluster of ours the next deployment mends what it leaves.
///
/// # Errors
/// [`DeployError`]; at once where a pod will never become ready.
pub async fn deploy(
    cluster: &Cluster,
    helm: &Path,
    release: &Release,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Deployed, DeployError> {
    let never = CancellationToken::new();
    deploy_unless(&never, cluster, helm, release, deadline, progress).await
}

/// As [`deploy`], for a release that others deploy as well: nobody mends a release which a
/// helm that was killed has left pending. So instead of dropping this, cancel `called_off`:
/// helm is asked to end and writes down that its release failed, within seconds.
///
/// # Errors
/// [`DeployError`], of which [`DeployError::CalledOff`].
pub async fn deploy_unless(
    called_off: &CancellationToken,
    cluster: &Cluster,
    helm: &Path,
    release: &Release,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Deployed, DeployError> {
    let end = Instant::now() + deadline;
    // Whole seconds: messages name it.
    let left = || Duration::from_secs(end.saturating_duration_since(Instant::now()).as_secs());
    let helm = Helm::new(helm, cluster)?;
    let lock = unless(called_off, alone(&helm, left(), progress)).await?;
    mend::mend(&helm, release, left(), progress).await?;
    let manifest_before = helm.manifest(&release.name).await?;
    let selector = release.selector();
    let before = Before::of(&Workloads::look(cluster, &selector).await?);
    let live = live::look(cluster, &release.name).await?;
    let still = unless(called_off, async {
        Ok(HeldStill::take(cluster, &live, progress).await?)
    })
    .await?;
    let applied = async {
        // One of them may have been switched before it was held.
        let live = live::look(cluster, &release.name).await?;
        progress(&match manifest_before {
            Some(_) => format!("helm upgrades {}", release.name),
            None => format!("helm installs {}", release.name),
        });
        let upgrading = upgrade::Upgrade {
            helm: &helm,
            lock: &lock,
            release: &release.around(&live),
            before: &before,
            called_off,
        };
        Ok((upgrading.run(left(), progress).await?, live))
    };
    let applied: Result<_, DeployError> = applied.await;
    still.give_up().await;
    let (installed, live) = applied?;
    progress(&format!(
        "helm has applied revision {} of {}",
        installed.revision, release.name
    ));
    unless(called_off, async {
        let complete = rollout::complete_after(&before, cluster, &selector, left(), progress);
        Ok(complete.await?)
    })
    .await?;
    let is_same = |before: &String| difference::is_same(before, &installed.manifest);
    let version = installed.version();
    let left = live.into_iter().filter(|it| it.version != version);
    Ok(Deployed {
        revision: installed.revision,
        changed: !manifest_before.as_ref().is_some_and(is_same),
        left: left.collect(),
        reconfigured: live::reconfigured(cluster, &release.name).await?,
        version,
    })
}

/// Does what may be dropped at any time.
async fn unless<T>(
    called_off: &CancellationToken,
    work: impl Future<Output = Result<T, DeployError>>,
) -> Result<T, DeployError> {
    tokio::select! {
        done = work => done,
        () = called_off.cancelled() => Err(DeployError::CalledOff),
    }
}

/// Waits until no other deployment by the same kubeconfig is at work. helm gets the lock
/// too (see [`upgrade`]), so that one which outlived its harness is waited for.
async fn alone(
    helm: &Helm<'_>,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<File, DeployError> {
    let path = helm.lock_file();
    let mut lock = file_lock::try_lock(&path);
    if matches!(lock, Err(LockError::Held { .. })) {
        progress("another deployment is at work; waiting for its helm to end");
        lock = file_lock::lock(&path, deadline, progress).await;
    }
    lock.map_err(|error| match error {
        LockError::Held { .. } => DeployError::Pending {
            what: std::io::Error::from(error).to_string(),
        },
        LockError::File { path, source } => DeployError::Directory { path, source },
    })
}

#[cfg(test)]
mod tests;
