//! SIGKILL of helm during an upgrade: helm leaves the release pending (helm#10599).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::wait::{self, Observation};
use helm::Release;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ListParams;
use kubernetes::prober::now;

use super::Setup;
use super::bad_upgrades::{check_back, start};
use super::hook::{self, ChartWithHook, Hook};
use super::probes::{self, check_nothing_failed};
use crate::{Mismatch, RunResult, Scenario};

/// From helm's start until it has recorded that it upgrades.
const PENDING_WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(100);

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let (good, next) = (&setup.releases[0], &setup.next[0]);
    let Some((_, images)) = start(setup, scenario, good).await? else {
        return Ok(());
    };
    let chart = match ChartWithHook::of(setup, next, Hook::Waits).await {
        Ok(chart) => chart,
        Err(mismatch) => return scenario.record_failure("a hook is added", mismatch).await,
    };
    let Some(probes) = probes::start(setup, scenario).await? else {
        return Ok(());
    };
    let since = now();
    let pending = killed_while_pending(setup, scenario, &chart.release).await;
    let claim = "a killed helm leaves the release pending";
    scenario
        .check(claim, async { pending.map(|seen| ((), seen)) })
        .await?;
    hook::remove(setup.cluster).await;
    let repaired = match setup.subject.sabotage {
        true => Ok(None),
        false => repair(setup, scenario, good).await,
    };
    scenario
        .check(
            "the next deployment makes the release usable again",
            async {
                match repaired? {
                    Some(line) => Ok(((), line)),
                    None => Err(setup.mismatch("a deployment that reports a repair", "none did")),
                }
            },
        )
        .await?;
    check_back(setup, scenario, good, Ok(()), &images).await?;
    check_nothing_failed(setup, scenario, probes, (1, since)).await
}

/// Upgrades the release, and kills helm once the release is pending.
async fn killed_while_pending(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    release: &Release,
) -> Result<String, Mismatch> {
    let pending = {
        let progress = scenario.progress_reporter();
        let upgrading = helm::deploy(
            setup.cluster,
            setup.helm,
            release,
            setup.deadline,
            &progress,
        );
        // The drop of the future sends SIGKILL to helm.
        tokio::select! {
            ended = upgrading => {
                let seen = format!("it ended before: {ended:?}");
                return Err(setup.mismatch("an upgrade that waits for its hook", seen));
            }
            pending = until_pending(setup, release) => pending,
        }
    };
    pending?;
    // helm might have recorded the end of the upgrade.
    until_pending(setup, release).await
}

async fn until_pending(setup: &Setup<'_>, release: &Release) -> Result<String, Mismatch> {
    let labels = format!("owner=helm,name={}", release.name);
    let of_release = ListParams::default().labels(&labels);
    let secrets = setup.cluster.api::<Secret>();
    let what = "the newest revision is pending";
    let pending = wait::until(what, PENDING_WITHIN, POLL_EVERY, async || {
        match secrets.list_metadata(&of_release).await {
            Ok(listed) => match newest_revision(&listed.items) {
                Some((revision, "pending-upgrade")) => {
                    Observation::Ready(format!("revision {revision} is pending"))
                }
                other => Observation::NotYet(format!("{other:?}")),
            },
            Err(error) => Observation::NotYet(error.to_string()),
        }
    });
    pending
        .await
        .map_err(|error| setup.mismatch("a release that is pending", error))
}

/// Returns the number and the status of the newest revision in helm's records. An older revision
/// stays pending after a repair. <https://helm.sh/docs/topics/advanced/#storage-backends>
fn newest_revision<K: ResourceExt>(records: &[K]) -> Option<(u32, &str)> {
    let revisions = records.iter().filter_map(|record| {
        let label = |key: &str| record.labels().get(key);
        Some((label("version")?.parse().ok()?, label("status")?.as_str()))
    });
    revisions.max_by_key(|(revision, _)| *revision)
}

/// Deploys the release. Returns the line of its progress that reports the repair.
async fn repair(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    release: &Release,
) -> Result<Option<String>, Mismatch> {
    let reported = Mutex::new(None);
    let shown = scenario.progress_reporter();
    let progress = |text: &str| {
        shown(text);
        if text.contains("by a helm that was killed") {
            *reported.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
        }
    };
    let deadline = setup.deadline;
    let deployed = helm::deploy(setup.cluster, setup.helm, release, deadline, &progress).await;
    deployed.map_err(|error| setup.mismatch("a deployment", error))?;
    Ok(reported
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_revision_that_was_left_pending_before_does_not_count() {
        let record = |version: &str, status: &str| -> Secret {
            let labels = json!({"version": version, "status": status});
            serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap()
        };
        let mut records = vec![
            record("10", "deployed"),
            record("9", "pending-upgrade"),
            Secret::default(),
        ];
        assert_eq!(newest_revision(&records), Some((10, "deployed")));
        records.push(record("11", "pending-upgrade"));
        assert_eq!(newest_revision(&records), Some((11, "pending-upgrade")));
        assert_eq!(newest_revision::<Secret>(&[]), None);
    }
}
