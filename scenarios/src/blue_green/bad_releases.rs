//! SCENARIOS 4 to 8 and 14: releases that must fail.

use std::time::{Duration, Instant};

use blue_green::{
    BlueGreenError, Colour, Conclusion, EventKind, ReleaseEvent, ReleaseStep, ServiceStatus,
};
use environments::config::PodFault;
use k8s_openapi::api::core::v1::Event as ClusterEvent;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, ListParams};
use kubernetes::prober::Recording;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, EventLog, attempt, attempt_until, release};
use super::service_watch::{ObservedColours, ServiceWatch};
use super::setup::{self, Setup};
use super::traffic::Lanes;
use crate::{Mismatch, RunResult, Scenario, Unmet};

/// From a measurable breach until all traffic is back.
const REVERT_TIMEOUT: Duration = Duration::from_secs(5);

/// From the kubelet's first failure until the release reports it.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);

/// No container listens on this port (tcpmux).
const CLOSED_PORT: i32 = 1;

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

/// SCENARIOS 5: the new version's readiness probe gets an error.
pub async fn never_ready(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let idle = status.colours[1].colour;
    let planted = async {
        let original = setup.deployment(idle).await?;
        setup.start_with(idle, PodFault::Unready).await?;
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
            match names_error_status(&why) && took < late {
                true => Ok(((), format!("after {:.1} s: {why}", took.as_secs_f64()))),
                false => setup.fail("the status that the probe saw", why),
            }
        })
        .await?;
    check_never_switched(setup, scenario, &attempt.log, observed, &status).await?;
    super::rolled_back(setup, scenario, attempt.conclusion, &status).await
}

/// Whether the cause of a failure has the status of an error.
fn names_error_status(why: &str) -> bool {
    let mut words = why.split(|it: char| it.is_whitespace() || ",;()".contains(it));
    words.any(|it| matches!(it.parse::<u16>(), Ok(400..600)))
}

/// Sabotage: makes the probe send the requests of users, which are always answered well.
async fn misplace_probe(setup: &Setup<'_>, colour: Colour) -> Result<(), Mismatch> {
    if !setup.subject.sabotage {
        return Ok(());
    }
    let (path, port) = (&setup.config.request.path, setup.target_port().await?);
    let probe = json!({
        "httpGet": {"path": path, "port": port}, "tcpSocket": null, "exec": null, "grpc": null,
    });
    setup
        .patch_container(colour, json!({"readinessProbe": probe}))
        .await
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
            match pods > 0 && why.contains(&expected) && names_error_status(&why) {
                true => Ok(((), why)),
                false => setup.fail(&format!("{expected} with the status of an error"), why),
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
    let last = last.unwrap_or_default();
    setup.put_fault(last, PodFault::Unready).await?;
    Ok(pods.len())
}

/// SCENARIOS 7 and 8: every pod of the new version has this fault after the switch. The reported
/// cause must contain `cause`.
pub async fn faulty_green(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    cause: &str,
    fault: PodFault,
) -> RunResult {
    let plant = async |event: &EventKind, idle: Colour| match event {
        EventKind::Settled { to, .. } if *to == idle => setup.put_fault_on_all(idle, fault).await,
        _ => Ok(()),
    };
    reverts(setup, scenario, cause, plant).await
}

/// SCENARIOS 8: no request reaches the new version, so that its pods count none.
pub async fn unreached_green(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let open = match setup.target_port().await {
        Ok(port) => port,
        Err(mismatch) => {
            let claim = "the Service has a port";
            return scenario.record_failure(claim, mismatch).await;
        }
    };
    let closed = IntOrString::Int(CLOSED_PORT);
    let mut is_misdirected = false;
    let fault = async |event: &EventKind, _: Colour| match event {
        // After the smoke requests of the switch. Those of the revert follow the breach.
        EventKind::SmokeHeld { service, .. } | EventKind::SmokeSkipped { service }
            if service == setup.service() && !is_misdirected =>
        {
            is_misdirected = true;
            setup.set_target_port(&closed).await
        }
        EventKind::Breached { .. } => setup.set_target_port(&open).await,
        _ => Ok(()),
    };
    let cause = "answered by the ingress itself";
    let reverted = reverts(setup, scenario, cause, fault).await;
    let restored = setup.set_target_port(&open).await;
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
        let _ = setup.put_fault_on_all(idle, PodFault::None).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_an_error_is_a_word() {
        for why in [
            "Readiness probe failed: HTTP probe failed with statuscode: 503",
            "pod/a-1 answers /ready with 500; pod/a-2 answers /ready with 200",
        ] {
            assert!(names_error_status(why), "{why}");
        }
        for why in ["", "pod/a-503-f500 is not ready", "pod/a answers with 200"] {
            assert!(!names_error_status(why), "{why}");
        }
    }
}
