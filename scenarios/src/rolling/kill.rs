//! SIGKILL of helm during an upgrade: helm leaves the release pending (helm#10599).

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use base::wait::{self, Observation};
use helm::Release;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;

use super::Setup;
use super::bad_upgrades::{check_back, now, start};
use super::hook::{self, ChartWithHook, Hook};
use super::probes::{Probes, check_nothing_failed};
use crate::{Mismatch, RunResult, Scenario};

/// From helm's start until it has recorded that it upgrades.
const PENDING_WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(100);

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let (good, next) = (&setup.releases[0], &setup.next[0]);
    let Some((_, images)) = start(setup, scenario, good).await? else {
        return Ok(());
    };
    let prepared = async {
        let chart = ChartWithHook::of(next, Hook::Waits).await;
        let chart = chart.map_err(|error| setup.mismatch("a copy of the chart", error))?;
        Ok::<_, Mismatch>((chart, Probes::start(setup).await?))
    };
    let (chart, probes) = match prepared.await {
        Ok(prepared) => prepared,
        Err(mismatch) => {
            return scenario
                .record_failure("requests are answered", mismatch)
                .await;
        }
    };
    let since = now();
    let pending = killed_while_pending(setup, scenario, &chart.release).await;
    let claim = "a killed helm leaves the release pending";
    scenario
        .check(claim, async { pending.map(|seen| ((), seen)) })
        .await?;
    hook::remove(setup).await;
    if setup.subject.sabotage {
        is_repaired(setup, scenario, Ok(None)).await?;
    } else {
        let lines = Mutex::default();
        let deployed = {
            let shown = scenario.progress_reporter();
            let progress = |text: &str| {
                shown(text);
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                Vec::push(&mut lines, text.to_owned());
            };
            let deadline = setup.deadline;
            helm::deploy(setup.cluster, setup.helm, good, deadline, &progress).await
        };
        let lines: Vec<String> = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        let repaired = lines
            .into_iter()
            .find(|it| it.contains("by a helm that was killed"));
        let repaired = match &deployed {
            Ok(_) => Ok(repaired),
            Err(error) => Err(setup.mismatch("a deployment", error)),
        };
        is_repaired(setup, scenario, repaired).await?;
    }
    check_back(setup, scenario, good, Ok(()), &images).await?;
    let recordings = probes.end(setup).await;
    check_nothing_failed(setup, scenario, recordings, since).await
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
    // helm's records: https://helm.sh/docs/topics/advanced/#storage-backends
    let labels = format!("owner=helm,name={},status=pending-upgrade", release.name);
    let ours = ListParams::default().labels(&labels);
    let records = setup.cluster.api::<Secret>();
    let what = "the release is pending";
    let pending = wait::until(what, PENDING_WITHIN, POLL_EVERY, async || {
        match records.list_metadata(&ours).await {
            Ok(listed) => match listed.items.first().and_then(|it| it.metadata.name.clone()) {
                Some(name) => Observation::Ready(name),
                None => Observation::NotYet("it is not".to_owned()),
            },
            Err(error) => Observation::NotYet(error.to_string()),
        }
    });
    pending
        .await
        .map_err(|error| setup.mismatch("a release that is pending", error))
}

/// Checks that the next deployment has reported the repair.
async fn is_repaired(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    repaired: Result<Option<String>, Mismatch>,
) -> RunResult {
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
    Ok(())
}
