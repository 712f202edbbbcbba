//! Rolls a release back, or removes it. helm does not wait for pods, so a revision whose pods never
//! started counts as deployed: the caller names the revision that was good.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::command::{Helm, seconds};
use super::{DeployError, Release, take_lock};
use kubernetes::Cluster;
use kubernetes::rollout;

/// Rolls `release` back to `revision` with the program `helm`, and waits until its rollout is
/// complete, all within `deadline`.
///
/// # Errors
/// [`DeployError`]: a blue-green service may forbid it, because its live colour has changed since.
pub async fn roll_back(
    cluster: &Cluster,
    helm: &Path,
    release: &Release,
    revision: u32,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), DeployError> {
    let end = Instant::now() + deadline;
    let remaining = || end.saturating_duration_since(Instant::now());
    let helm = Helm::new(helm, cluster)?;
    let _lock = take_lock(&helm, remaining(), progress).await?;
    progress(&format!(
        "helm rolls {} back to revision {revision}",
        release.name
    ));
    let (to, timeout) = (revision.to_string(), seconds(remaining()));
    let rollback = helm.change("rollback", &[&release.name, &to, "--timeout", &timeout])?;
    helm.program.output_of(rollback, remaining()).await?;
    rollout::complete(cluster, release.workloads(), remaining(), progress).await?;
    Ok(())
}

/// Uninstalls the release called `name` with the program `helm`, and waits until its objects are
/// deleted, all within `deadline`. A release that is not there is uninstalled.
///
/// # Errors
/// [`DeployError`].
pub async fn uninstall(
    cluster: &Cluster,
    helm: &Path,
    name: &str,
    deadline: Duration,
) -> Result<(), DeployError> {
    let helm = Helm::new(helm, cluster)?;
    let _lock = take_lock(&helm, deadline, &|_| ()).await?;
    let options = [
        "--wait",
        "--ignore-not-found",
        "--timeout",
        &seconds(deadline),
    ];
    let uninstall = helm.change("uninstall", &[&[name][..], &options].concat())?;
    helm.program.output_of(uninstall, deadline).await.map(drop)
}
