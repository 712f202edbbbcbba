//! Releases of the platform: helm installs and upgrades them, and this crate watches their pods.
//!
//! helm's own `--wait` is not used. It ignores pods that may be unavailable, and waits until its
//! timeout for a pod that will never start (helm#8660, helm#7429).

pub mod chart;
mod command;
pub mod difference;
pub mod error;
pub mod live;
mod locks;
mod pending_release;
pub mod pull;
pub mod render;
mod rollback;
mod upgrade;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use base::file_lock::{self, LockError};
use command::Helm;
pub use difference::difference;
pub use error::DeployError;
use kubernetes::Cluster;
use kubernetes::rollout::{self, Before};
use kubernetes::workloads::{Selection, Workloads};
use live::Live;
use locks::HeldLocks;
pub use rollback::{roll_back, uninstall};

/// The chart's `metricsPort`: each pod serves its metrics, health and faults there.
pub const METRICS_PORT: u16 = 9090;

/// The minor version of Kubernetes that charts are rendered for without a cluster. helm's own default
/// may be much older than charts accept.
pub const KUBERNETES: &str = "1.37";

/// The desired state of a release.
#[derive(Clone, Debug)]
pub struct Release {
    /// The name of the helm release.
    pub name: String,
    /// The version that its values deploy: `v2.1.0`.
    pub version: String,
    /// The chart: a folder, or a packaged chart.
    pub chart: PathBuf,
    /// The values files. A later one overrides an earlier one.
    pub values_files: Vec<PathBuf>,
    /// Values that override all files. helm reads them from a private file.
    pub overrides: serde_json::Value,
}

/// A release that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The release's name.
    pub release: String,
    /// helm's revision number, from 1.
    pub revision: u32,
    /// The version of its services: `v2.1.0`.
    pub version: String,
    /// Whether its objects differ from those of the previous revision.
    pub changed: bool,
    /// The blue-green services that keep another version.
    pub left: Vec<Live>,
    /// The blue-green services whose idle colour has a new configuration.
    pub reconfigured: Vec<Live>,
}

impl Release {
    /// Keeps the live versions of blue-green services.
    fn around(&self, live: &[Live]) -> Release {
        Release {
            overrides: live::keep_versions(&self.overrides, live),
            ..self.clone()
        }
    }

    /// Returns the command that renders the chart with its values files.
    pub fn template_command(&self) -> String {
        let files = self.values_files.iter();
        let files = files.map(|file| format!(" --values {}", file.display()));
        let chart = self.chart.display();
        let files: String = files.collect();
        format!("helm template {chart}{files} --kube-version {KUBERNETES}")
    }

    /// Returns the selection of its workloads.
    pub fn workloads(&self) -> Selection {
        Selection::Release(self.name.clone())
    }
}

/// Installs or upgrades `release` with the program `helm`, and waits until its rollout is complete,
/// all within `deadline`. A live colour of a blue-green service keeps its version: the chart
/// refuses `overrides` with another one. `progress` receives a line for each change.
///
/// helm is killed when the future is dropped, or when this process dies. On a cluster of ours the
/// next deployment repairs the release.
///
/// # Errors
/// [`DeployError`]; immediately if a pod will never become ready, or if a deployer is releasing a
/// service.
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

/// As [`deploy`], for a release that others deploy as well: nobody repairs a release that a killed
/// helm has left pending. Cancel `cancellation` instead of dropping the future: helm then receives
/// SIGTERM, and records within seconds that its release failed.
///
/// # Errors
/// [`DeployError`], also [`DeployError::Cancelled`].
pub async fn deploy_unless(
    cancellation: &CancellationToken,
    cluster: &Cluster,
    helm: &Path,
    release: &Release,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Deployed, DeployError> {
    let end = Instant::now() + deadline;
    // Whole seconds: messages contain it.
    let remaining = || Duration::from_secs(end.saturating_duration_since(Instant::now()).as_secs());
    let helm = Helm::new(helm, cluster)?;
    let lock = unless(cancellation, take_lock(&helm, remaining(), progress)).await?;
    pending_release::repair(&helm, release, remaining(), progress).await?;
    let manifest_before = helm.manifest(&release.name).await?;
    let before = Before::of(&Workloads::look(cluster, release.workloads()).await?);
    let live = live::of_release(cluster, &release.name).await?;
    let locks = unless(cancellation, async {
        Ok(HeldLocks::take(cluster, &live, progress).await?)
    })
    .await?;
    let applied = async {
        // A service may have switched before its lock was taken.
        let live = live::of_release(cluster, &release.name).await?;
        progress(&match manifest_before {
            Some(_) => format!("helm upgrades {}", release.name),
            None => format!("helm installs {}", release.name),
        });
        let upgrading = upgrade::Upgrade {
            helm: &helm,
            lock: &lock,
            release: &release.around(&live),
            before: &before,
            cancellation,
        };
        Ok((Box::pin(upgrading.run(remaining(), progress)).await?, live))
    };
    let applied: Result<_, DeployError> = applied.await;
    locks.release().await;
    let (installed, live) = applied?;
    progress(&format!(
        "helm has applied revision {} of {}",
        installed.revision, release.name
    ));
    unless(cancellation, async {
        let workloads = release.workloads();
        let complete = rollout::complete_after(&before, cluster, workloads, remaining(), progress);
        Ok(Box::pin(complete).await?)
    })
    .await?;
    let is_same = |before: &String| difference::is_same(before, &installed.manifest);
    let version = release.version.clone();
    let other_versions = live.into_iter().filter(|it| it.version != version);
    Ok(Deployed {
        release: release.name.clone(),
        revision: installed.revision,
        changed: !manifest_before.as_ref().is_some_and(is_same),
        left: other_versions.collect(),
        reconfigured: live::reconfigured(cluster, &release.name).await?,
        version,
    })
}

/// Runs `work`, and drops it on cancellation.
async fn unless<T>(
    cancellation: &CancellationToken,
    work: impl Future<Output = Result<T, DeployError>>,
) -> Result<T, DeployError> {
    tokio::select! {
        done = work => done,
        () = cancellation.cancelled() => Err(DeployError::Cancelled),
    }
}

/// Waits until no other deployment with the same kubeconfig runs. helm inherits the lock (see
/// [`upgrade`]), so this also waits for a helm that outlived its harness.
async fn take_lock(
    helm: &Helm<'_>,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<File, DeployError> {
    let path = helm.lock_file();
    let mut lock = file_lock::try_lock(&path);
    if matches!(lock, Err(LockError::Held { .. })) {
        progress("another deployment is running; waiting for its helm to exit");
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
