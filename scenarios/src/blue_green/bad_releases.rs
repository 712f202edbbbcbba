//! SCENARIOS 4 to 8 and 14: releases that must fail.

use std::time::{Duration, Instant};

use blue_green::{
    BlueGreenError, Colour, Conclusion, EventKind, ReleaseEvent, ReleaseStep, ServiceStatus,
};
use k8s_openapi::api::core::v1::Event as ClusterEvent;
use kube::api::{Api, ListParams};
use kubernetes::prober::Recording;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, EventLog, attempt, attempt_until, release};
use super::service_watch::{ObservedColours, ServiceWatch};
use super::setup::{self, SERVICE, Setup};
use super::traffic::Lanes;
use crate::{Mismatch, RunResult, Scenario, Unmet};

/// From a measurable breach until all traffic is back.
const REVERT_TIMEOUT: Duration = Duration::from_secs(5);

/// From the kubelet's first failure until the release reports it.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);

/// No container listens on this port.
const CLOSED_PORT: u16 = 8001;

/// SCENARIOS 4: a tag that does not exist.
pub async fn bad_image(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((status, _)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let [live, idle] = status.colours.each_ref().map(|it| it.colour);
    let started = jiff::Timestamp::now();
    let missing = "v0.0.0-nowhere";
    let (attempt, observed) = must_not_switch(setup, scenario, missing, &mut async |event| {
        if let EventKind::Began { step } = event.what
            && step == ReleaseStep::BringUp
            && setup.subject.sabotage
        {
            // A deployer with the steps in the wrong order.
            let _ = setup.select(Some(idle)).await;
        }
    })
    .await;
    let reported = jiff::Timestamp::now();
    if setup.subject.sabotage {
        let _ = setup.select(Some(live)).await;
        let _ = setup.end_leftover_release().await;
    }
    let failure = first_failure(setup, started).await;
    let claim = "the cause is named within 15 s of the kubelet's first failure";
    scenario
        .evaluate(claim, async {
            let why = not_released(setup, &attempt.conclusion)?;
            if !why.contains("mage") {
                return setup.fail("a cause that names the image", why);
            }
            let first = failure?;
            // Events have a resolution of one second.
            let after = reported.duration_since(first).unsigned_abs();
            match after <= REPORT_TIMEOUT {
                true => Ok(((), format!("{:.1} s after it: {why}", after.as_secs_f64()))),
                false => setup.fail("15 s at most", format!("{after:?}")),
            }
        })
        .await?;
    check_never_switched(setup, scenario, &attempt.log, observed, &status).await?;
    super::rolled_back(setup, scenario, attempt.conclusion, &status).await
}

/// Returns when the kubelet first failed to get an image, since `started`.
async fn first_failure(
    setup: &Setup<'_>,
    started: jiff::Timestamp,
) -> Result<jiff::Timestamp, Unmet> {
    let api: Api<ClusterEvent> = setup.api();
    let failed = ListParams::default().fields("reason=Failed,involvedObject.kind=Pod");
    let events = api.list(&failed).await;
    let events = events.map_err(|error| setup.mismatch("events", error))?;
    let since = started - Duration::from_secs(1);
    let events = events.items.into_iter();
    let at = events.filter_map(|event| event.first_timestamp);
    // The client library uses another version of jiff.
    let at = at.filter_map(|it| jiff::Timestamp::from_second(it.0.as_second()).ok());
    let first = at.filter(|at| *at >= since).min();
    first.ok_or_else(|| Unmet::Inconclusive("the kubelet reported no failure".into()))
}

/// SCENARIOS 5: the new version's readiness probe returns 503.
pub async fn never_ready(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let idle = status.colours[1].colour;
    let planted = async {
        let original = setup.deployment(idle).await?;
        let faults = json!({"ready": false});
        setup.start_with_faults(idle, faults).await?;
        misplace_probe(setup, idle).await?;
        Ok(original)
    };
    let original = match planted.await {
        Ok(original) => original,
        Err(mismatch) => {
            let claim = "the new version is never ready";
            return scenario.record_failure(claim, mismatch).await;
        }
    };
    let started = Instant::now();
    let ignore = &mut async |_: &ReleaseEvent| {};
    let (attempt, observed) = must_not_switch(setup, scenario, &version, ignore).await;
    let took = started.elapsed();
    // Before the next release of this colour, even if this one failed.
    let restored = setup.restore(idle, &original).await;
    let deadline = setup.policy.green_ready;
    let claim = "the release fails at its deadline, and reports what its pods answered";
    scenario
        .evaluate(claim, async {
            restored?;
            let why = not_released(setup, &attempt.conclusion)?;
            // The pods terminate within their grace period.
            let late = deadline + Duration::from_secs(60);
            match why.contains("503") && took < late {
                true => Ok(((), format!("after {:.1} s: {why}", took.as_secs_f64()))),
                false => setup.fail("503, as the probe saw it", why),
            }
        })
        .await?;
    check_never_switched(setup, scenario, &attempt.log, observed, &status).await?;
    super::rolled_back(setup, scenario, attempt.conclusion, &status).await
}

/// Sabotage: sets a probe path that always returns 200.
async fn misplace_probe(setup: &Setup<'_>, colour: Colour) -> Result<(), Mismatch> {
    if !setup.subject.sabotage {
        return Ok(());
    }
    let probe = json!({"httpGet": {"path": "/health/live"}});
    let container = json!({"name": SERVICE, "readinessProbe": probe});
    let template = json!({"spec": {"containers": [container]}});
    setup.patch_template(colour, template).await
}

/// SCENARIOS 6: one pod of N fails its health check.
pub async fn bad_health(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let idle = status.colours[1].colour;
    let planted = async {
        let original = setup.deployment(idle).await?;
        misplace_probe(setup, idle).await?;
        Ok(original)
    };
    let original = match planted.await {
        Ok(original) => original,
        Err(mismatch) => {
            let claim = "one pod is unhealthy";
            return scenario.record_failure(claim, mismatch).await;
        }
    };
    let mut planted = Ok(0);
    let (attempt, observed) = must_not_switch(setup, scenario, &version, &mut async |event| {
        if matches!(
            event.what,
            EventKind::Began {
                step: ReleaseStep::Check
            }
        ) {
            planted = make_one_unhealthy(setup, idle).await;
        }
    })
    .await;
    if setup.subject.sabotage {
        let _ = setup.restore(idle, &original).await;
    }
    let claim = "every pod was checked, and the unhealthy one is named";
    scenario
        .evaluate(claim, async {
            let pods = planted?;
            let why = not_released(setup, &attempt.conclusion)?;
            let expected = format!("1 of {pods} pods");
            match pods > 0 && why.contains(&expected) && why.contains("503") {
                true => Ok(((), why)),
                false => setup.fail(&format!("{expected} with 503"), why),
            }
        })
        .await?;
    check_never_switched(setup, scenario, &attempt.log, observed, &status).await?;
    super::rolled_back(setup, scenario, attempt.conclusion, &status).await
}

/// Makes one pod of the colour report that it is not ready. Returns the number of pods.
async fn make_one_unhealthy(setup: &Setup<'_>, colour: Colour) -> Result<usize, Mismatch> {
    let pods = setup.pods(colour).await?;
    let last = pods.last().and_then(|it| it.metadata.name.as_deref());
    let faults = json!({"ready": false});
    setup.put_faults(last.unwrap_or_default(), &faults).await?;
    Ok(pods.len())
}

/// SCENARIOS 7 and 8: every pod of the new version has these faults after the switch. The reported
/// cause must contain `cause`.
pub async fn faulty_green(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    cause: &str,
    faults: Value,
) -> RunResult {
    let fault = async |event: &EventKind, idle: Colour| match event {
        EventKind::Settled { to, .. } if *to == idle => {
            setup.put_faults_on_all(idle, &faults).await
        }
        _ => Ok(()),
    };
    reverts(setup, scenario, cause, fault).await
}

/// SCENARIOS 8: no request reaches the new version, so that its pods count none.
pub async fn unreached_green(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let mut is_misdirected = false;
    let fault = async |event: &EventKind, _: Colour| match event {
        // After the smoke requests of the switch. Those of the revert follow the breach.
        EventKind::SmokeHeld { service, .. } | EventKind::SmokeSkipped { service }
            if service == SERVICE && !is_misdirected =>
        {
            is_misdirected = true;
            setup.set_target_port(json!(CLOSED_PORT)).await
        }
        EventKind::Breached { .. } => setup.set_target_port(json!("http")).await,
        _ => Ok(()),
    };
    let cause = "answered by the ingress itself";
    let reverted = reverts(setup, scenario, cause, fault).await;
    let restored = setup.set_target_port(json!("http")).await;
    let claim = "the Service sends requests to its pods again";
    let restored = async { restored.map(|()| ((), String::new())) };
    scenario.check(claim, restored).await?;
    reverted
}

/// Checks that a release is rolled back in time if `fault` makes its new version faulty, and that
/// the reported cause contains `cause`. With sabotage, the deployer does not analyse the traffic.
pub(super) async fn reverts(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    cause: &str,
    mut fault: impl AsyncFnMut(&EventKind, Colour) -> Result<(), Mismatch>,
) -> RunResult {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let without_analysis = setup::without_analysis(setup.policy);
    let setup = &setup.or_without_analysis(&without_analysis);
    let Some(traffic) = super::start_traffic(setup, scenario, Lanes::quick()).await? else {
        return Ok(());
    };
    let idle = status.colours[1].colour;
    let mut planted = Ok(());
    let attempt = attempt(setup, scenario, &version, &mut async |event| {
        if planted.is_ok() {
            planted = fault(&event.what, idle).await;
        }
    })
    .await;
    let recordings = traffic.end().await;
    if setup.subject.sabotage {
        // The new version is live now.
        let _ = setup.put_faults_on_all(idle, &json!({})).await;
    }
    let claim = "the cause is named, and traffic is back within 5 s of it";
    scenario
        .evaluate(claim, async {
            planted?;
            let why = not_released(setup, &attempt.conclusion)?;
            let Some(millis) = attempt.log.reverted() else {
                return setup.fail("a revert that was verified", why);
            };
            let in_time = Duration::from_millis(millis) < REVERT_TIMEOUT;
            match in_time && why.contains(cause) {
                true => Ok(((), format!("{millis} ms after the breach: {why}"))),
                false => {
                    let expected = format!("{cause:?} named, and traffic back within 5 s");
                    setup.fail(&expected, format!("{millis} ms: {why}"))
                }
            }
        })
        .await?;
    check_old_answers(setup, scenario, recordings, &status).await?;
    super::rolled_back(setup, scenario, attempt.conclusion, &status).await
}

/// Checks that the last answers came from the old version.
async fn check_old_answers(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    recordings: Result<Vec<Recording>, Mismatch>,
    status: &ServiceStatus,
) -> RunResult {
    let old = status.colours[0].version.clone();
    let claim = format!("users are answered by {old} again");
    scenario
        .evaluate(&claim, async {
            const LAST: usize = 50;
            let recordings = recordings?;
            let mut answers: Vec<_> = recordings.iter().flat_map(|it| &it.answers).collect();
            answers.sort_by_key(|it| it.intended);
            let last = &answers[answers.len().saturating_sub(LAST)..];
            let right = last
                .iter()
                .filter(|it| it.good && it.version() == Some(old.as_str()));
            match (last.len(), right.count()) {
                (LAST, LAST) => Ok(((), format!("the last {LAST} answers"))),
                (all, right) => {
                    let seen = format!("{right} of the last {all} answers are");
                    setup.fail(&format!("the last {LAST} from {old}"), seen)
                }
            }
        })
        .await?;
    Ok(())
}

/// SCENARIOS 14: there is no traffic while the new version is analysed.
pub async fn no_data(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let without_analysis = setup::without_analysis(setup.policy);
    let setup = &setup.or_without_analysis(&without_analysis);
    let attempt = release(setup, scenario, &version).await;
    let claim = "without traffic the release is inconclusive, and rolled back";
    scenario
        .evaluate(claim, async {
            match &attempt.conclusion {
                Ok(Conclusion::Reverted {
                    why,
                    inconclusive: true,
                }) => Ok(((), why.clone())),
                Ok(other) => {
                    let expected = "inconclusive, and so rolled back";
                    setup.fail(expected, format!("{other:?}"))
                }
                Err(error) => setup.fail("a verdict", error),
            }
        })
        .await?;
    super::rolled_back(setup, scenario, attempt.conclusion, &status).await
}

/// Returns why the version was not released.
fn not_released(
    setup: &Setup<'_>,
    conclusion: &Result<Conclusion, BlueGreenError>,
) -> Result<String, Unmet> {
    match conclusion {
        Ok(Conclusion::RolledBack { why, .. } | Conclusion::Reverted { why, .. }) => {
            Ok(why.clone())
        }
        Ok(other) => setup.fail("no release", format!("{other:?}")),
        Err(error) => setup.fail("a release that is rolled back", error),
    }
}

/// Tries a release that must not reach its switch. If it reaches it, the release is cancelled.
async fn must_not_switch(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    version: &str,
    on_event: &mut impl AsyncFnMut(&ReleaseEvent),
) -> (Attempt, Result<ObservedColours, String>) {
    let watch = ServiceWatch::start(setup);
    let switched = CancellationToken::new();
    let cancelled = switched.clone();
    let observe = &mut async |event: &ReleaseEvent| {
        if matches!(event.what, EventKind::Patched { .. }) {
            switched.cancel();
        }
        on_event(event).await;
    };
    let attempt = attempt_until(setup, scenario, version, cancelled, observe).await;
    (attempt, watch.end().await)
}

/// Checks that traffic was never moved, by the deployer's events, which show even the shortest
/// switch, and by the colours that the active Service selected.
async fn check_never_switched(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    log: &EventLog,
    observed: Result<ObservedColours, String>,
    status: &ServiceStatus,
) -> RunResult {
    let live = status.colours[0].colour;
    scenario
        .evaluate("traffic was never moved", async {
            let expected = format!("{live} alone behind the active Service");
            let observed = observed.map_err(|seen| setup.mismatch(&expected, seen))?;
            if let Some(at) = log.patched() {
                return setup.fail("no switch", format!("one at {at:.0}"));
            }
            match observed.colours.as_slice() {
                [] => Err(Unmet::Inconclusive(
                    "the active Service was never read".into(),
                )),
                [one] if *one == live => Ok(((), format!("{live} in {} reads", observed.reads))),
                others => setup.fail(&expected, format!("{others:?}")),
            }
        })
        .await?;
    Ok(())
}
