//! SCENARIOS 4 to 8: releases that must not be made, and are not.

use std::time::{Duration, Instant};

use harness::blue_green::{BlueGreenError, Colour, Conclusion, Event, Happened, Status, Step};
use harness::prober::Recording;
use harness::run::RunFolderError;
use k8s_openapi::api::core::v1::Event as ClusterEvent;
use kube::api::{Api, ListParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::attempt::{Tried, attempt, attempt_until, release};
use super::ground::{self, Ground, SERVICE};
use super::load::Lanes;
use super::log::Log;
use super::watch::{Seen, Watch};
use crate::{Mismatch, Scenario, Unmet};

/// From a breach that is measurable until all traffic is back.
const REVERT_WITHIN: Duration = Duration::from_secs(5);

/// From the kubelet's first failure until the release says so.
const NAMED_WITHIN: Duration = Duration::from_secs(15);

/// No container listens there.
const CLOSED_PORT: u16 = 8001;

/// SCENARIOS 4: a tag that is not there.
pub async fn bad_image(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let Some((status, _)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let [live, idle] = status.colours.each_ref().map(|it| it.colour);
    let begun = jiff::Timestamp::now();
    let not_there = "v0.0.0-nowhere";
    let (tried, seen) = must_not_switch(ground, scenario, not_there, &mut async |event| {
        let begins = matches!(
            event.what,
            Happened::Began {
                step: Step::BringUp
            }
        );
        if begins && ground.subject.sabotage {
            // A deployer that has the order wrong.
            let _ = ground.select(Some(idle)).await;
        }
    })
    .await;
    let named = jiff::Timestamp::now();
    if ground.subject.sabotage {
        let _ = ground.select(Some(live)).await;
        let _ = ground.brought_to_rest().await;
    }
    let failure = first_failure(ground, begun).await;
    scenario
        .judge(
            "the cause is named within 15 s of the kubelet's first failure",
            async {
                let why = not_released(ground, &tried.concluded)?;
                if !why.contains("mage") {
                    return Err(ground.trouble("a cause that names the image", why).into());
                }
                let first = failure?;
                // Events tell whole seconds.
                let after = named.duration_since(first).unsigned_abs();
                match after <= NAMED_WITHIN {
                    true => Ok(((), format!("{:.1} s after it: {why}", after.as_secs_f64()))),
                    false => Err(ground.trouble("15 s at most", format!("{after:?}")).into()),
                }
            },
        )
        .await?;
    never_switched(ground, scenario, &tried.log, seen, &status).await?;
    super::taken_back(ground, scenario, tried.concluded, &status).await
}

/// When the kubelet first could not have an image, since `begun`.
async fn first_failure(
    ground: &Ground<'_>,
    begun: jiff::Timestamp,
) -> Result<jiff::Timestamp, Unmet> {
    let api: Api<ClusterEvent> = ground.api();
    let failed = ListParams::default().fields("reason=Failed,involvedObject.kind=Pod");
    let events = api.list(&failed).await;
    let events = events.map_err(|error| ground.trouble("events", error))?;
    let at = events
        .items
        .into_iter()
        .filter_map(|event| event.first_timestamp);
    let since = begun - Duration::from_secs(1);
    // The client library has a version of the crate of its own.
    let at = at.filter_map(|it| jiff::Timestamp::from_second(it.0.as_second()).ok());
    let first = at.filter(|at| *at >= since).min();
    first.ok_or_else(|| Unmet::Inconclusive("the kubelet told of no failure".into()))
}

/// SCENARIOS 5: the new version's readiness says 503.
pub async fn never_ready(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let idle = status.colours[1].colour;
    let planted = async {
        let was = ground.deployment(idle).await?;
        let faults = json!({"ready": false});
        ground.begin_with(idle, Some(faults)).await?;
        misplace_probe(ground, idle).await?;
        Ok(was)
    };
    let was = match planted.await {
        Ok(was) => was,
        Err(mismatch) => {
            return super::cannot(scenario, "the new version is never ready", mismatch).await;
        }
    };
    let begun = Instant::now();
    let nothing = &mut async |_: &Event| {};
    let (tried, seen) = must_not_switch(ground, scenario, &version, nothing).await;
    let took = begun.elapsed();
    // Before the next release of this colour, whatever comes of this one.
    let mended = ground.restore(idle, &was).await;
    let deadline = ground.policy.green_ready;
    scenario
        .judge(
            "the release ends at its deadline, saying what its pods said",
            async {
                mended?;
                let why = not_released(ground, &tried.concluded)?;
                // Bringing pods to an end takes their grace period.
                let late = deadline + Duration::from_secs(60);
                match why.contains("503") && took < late {
                    true => Ok(((), format!("after {:.1} s: {why}", took.as_secs_f64()))),
                    false => Err(ground.trouble("503, as the probe saw it", why).into()),
                }
            },
        )
        .await?;
    never_switched(ground, scenario, &tried.log, seen, &status).await?;
    super::taken_back(ground, scenario, tried.concluded, &status).await
}

/// Sabotage: its pods are probed where a process always answers well.
async fn misplace_probe(ground: &Ground<'_>, colour: Colour) -> Result<(), Mismatch> {
    if !ground.subject.sabotage {
        return Ok(());
    }
    let probe = json!({"httpGet": {"path": "/health/live"}});
    let container = json!({"name": SERVICE, "readinessProbe": probe});
    let template = json!({"spec": {"containers": [container]}});
    ground.patch_template(colour, template).await
}

/// SCENARIOS 6: one pod of N fails its health check.
pub async fn bad_health(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let idle = status.colours[1].colour;
    let planted = async {
        let was = ground.deployment(idle).await?;
        misplace_probe(ground, idle).await?;
        Ok(was)
    };
    let was = match planted.await {
        Ok(was) => was,
        Err(mismatch) => return super::cannot(scenario, "one pod is ill", mismatch).await,
    };
    let mut planted = Ok(0);
    let (tried, seen) = must_not_switch(ground, scenario, &version, &mut async |event| {
        if matches!(event.what, Happened::Began { step: Step::Check }) {
            planted = one_is_ill(ground, idle).await;
        }
    })
    .await;
    if ground.subject.sabotage {
        let _ = ground.restore(idle, &was).await;
    }
    scenario
        .judge(
            "every pod was asked, and the one that is ill is named",
            async {
                let pods = planted?;
                let why = not_released(ground, &tried.concluded)?;
                let expected = format!("1 of {pods} pods");
                match pods > 0 && why.contains(&expected) && why.contains("503") {
                    true => Ok(((), why)),
                    false => Err(ground.trouble(&format!("{expected} says 503"), why).into()),
                }
            },
        )
        .await?;
    never_switched(ground, scenario, &tried.log, seen, &status).await?;
    super::taken_back(ground, scenario, tried.concluded, &status).await
}

/// Makes one pod of the colour say that it is not ready, and tells how many there are.
async fn one_is_ill(ground: &Ground<'_>, colour: Colour) -> Result<usize, Mismatch> {
    let pods = ground.pods(colour).await?;
    let last = pods.last().and_then(|it| it.metadata.name.clone());
    ground
        .put_faults(&last.unwrap_or_default(), &json!({"ready": false}))
        .await?;
    Ok(pods.len())
}

/// SCENARIOS 7: what is asked after the switch fails.
pub async fn bad_smoke(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let faults = json!({"error_share": 1.0});
    reverts(
        ground,
        scenario,
        "after the switch",
        at_fault(ground, faults),
    )
    .await
}

/// SCENARIOS 8: the new version is 300 ms slower, once it is live.
pub async fn slow_green(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let faults = json!({"latency_ms": 300});
    reverts(ground, scenario, "latency", at_fault(ground, faults)).await
}

/// SCENARIOS 8: the new version answers well and quickly, and three of ten requests not at all.
pub async fn silent_green(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let faults = json!({"silent_share": 0.3});
    reverts(
        ground,
        scenario,
        "without an answer",
        at_fault(ground, faults),
    )
    .await
}

/// The same, of a version that no request reaches: its pods have counted nothing then.
pub async fn unreached_green(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let mut is_misdirected = false;
    let fault = async |happened: &Happened, _: Colour| match happened {
        // Its smoke has held, or was left out; the revert's comes after the breach.
        Happened::SmokeHeld { service, .. } | Happened::SmokeSkipped { service }
            if service == SERVICE && !is_misdirected =>
        {
            is_misdirected = true;
            ground.set_target_port(json!(CLOSED_PORT)).await
        }
        Happened::Breached { .. } => ground.set_target_port(json!("http")).await,
        _ => Ok(()),
    };
    let named = "answered by the ingress itself";
    let reverted = reverts(ground, scenario, named, fault).await;
    let mended = ground.set_target_port(json!("http")).await;
    let claim = "the Service leads to its pods again";
    let mended = async { mended.map(|()| ((), String::new())).map_err(Unmet::from) };
    scenario.judge(claim, mended).await?;
    reverted
}

/// Plants faults in every pod of the new version when it is switched to.
fn at_fault<'a>(
    ground: &'a Ground<'_>,
    faults: serde_json::Value,
) -> impl AsyncFnMut(&Happened, Colour) -> Result<(), Mismatch> + 'a {
    async move |happened: &Happened, idle: Colour| match happened {
        Happened::Settled { to, .. } if *to == idle => {
            ground.put_faults_on_all(idle, &faults).await
        }
        _ => Ok(()),
    }
}

/// The new version is at fault from the switch on: it is taken back, in time. Sabotaged, the
/// deployer does not look at what users get of it.
pub(super) async fn reverts(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    named: &str,
    mut fault: impl AsyncFnMut(&Happened, Colour) -> Result<(), Mismatch>,
) -> Result<(), RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let careless = ground::careless(ground.policy);
    let ground = &ground.or_careless(&careless);
    let Some(load) = super::loaded(ground, scenario, Lanes::quick()).await? else {
        return Ok(());
    };
    let idle = status.colours[1].colour;
    let mut planted = Ok(());
    let tried = attempt(ground, scenario, &version, &mut async |event| {
        if planted.is_ok() {
            planted = fault(&event.what, idle).await;
        }
    })
    .await;
    let recordings = load.end().await;
    if ground.subject.sabotage {
        // It is live now.
        let _ = ground.put_faults_on_all(idle, &json!({})).await;
    }
    scenario
        .judge(
            "the cause is named, and traffic is back within 5 s of it",
            async {
                planted?;
                let why = not_released(ground, &tried.concluded)?;
                let Some(millis) = tried.log.reverted() else {
                    return Err(ground.trouble("a revert that was verified", why).into());
                };
                let in_time = Duration::from_millis(millis) < REVERT_WITHIN;
                match in_time && why.contains(named) {
                    true => Ok(((), format!("{millis} ms after the breach: {why}"))),
                    false => {
                        let expected = format!("{named:?} named, and traffic back within 5 s");
                        Err(ground
                            .trouble(&expected, format!("{millis} ms: {why}"))
                            .into())
                    }
                }
            },
        )
        .await?;
    back_on(ground, scenario, recordings, &status).await?;
    super::taken_back(ground, scenario, tried.concluded, &status).await
}

/// The last answers are the old version's, through the ingress too.
async fn back_on(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    recordings: Result<Vec<Recording>, Mismatch>,
    status: &Status,
) -> Result<(), RunFolderError> {
    let old = status.colours[0].version.clone();
    let claim = format!("users are answered in {old} again");
    scenario
        .judge(&claim, async {
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
                    Err(ground
                        .trouble(&format!("the last {LAST} in {old}"), seen)
                        .into())
                }
            }
        })
        .await?;
    Ok(())
}

/// SCENARIOS 14: nobody asks anything while the new version is watched.
pub async fn no_data(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let careless = ground::careless(ground.policy);
    let ground = &ground.or_careless(&careless);
    let tried = release(ground, scenario, &version).await;
    scenario
        .judge(
            "without traffic the release is inconclusive, and taken back",
            async {
                match &tried.concluded {
                    Ok(Conclusion::Reverted {
                        why,
                        inconclusive: true,
                    }) => Ok(((), why.clone())),
                    Ok(other) => {
                        let expected = "inconclusive, and so taken back";
                        Err(ground.trouble(expected, format!("{other:?}")).into())
                    }
                    Err(error) => Err(ground.trouble("a verdict", error).into()),
                }
            },
        )
        .await?;
    super::taken_back(ground, scenario, tried.concluded, &status).await
}

/// Why it was not released.
fn not_released(
    ground: &Ground<'_>,
    concluded: &Result<Conclusion, BlueGreenError>,
) -> Result<String, Unmet> {
    match concluded {
        Ok(Conclusion::TakenBack { why, .. } | Conclusion::Reverted { why, .. }) => Ok(why.clone()),
        Ok(other) => Err(ground.trouble("no release", format!("{other:?}")).into()),
        Err(error) => Err(ground.trouble("a release that is taken back", error).into()),
    }
}

/// Tries a release that must not come to its switch. One that does has shown enough, and is
/// called off.
async fn must_not_switch(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    version: &str,
    meanwhile: &mut impl AsyncFnMut(&Event),
) -> (Tried, Result<Seen, String>) {
    let watch = Watch::begin(ground);
    let enough = CancellationToken::new();
    let tried = attempt_until(
        ground,
        scenario,
        version,
        enough.clone(),
        &mut async |event: &Event| {
            if matches!(event.what, Happened::Patched { .. }) {
                enough.cancel();
            }
            meanwhile(event).await;
        },
    )
    .await;
    (tried, watch.end().await)
}

/// By the deployer's own word, which is of the shortest moment, and by what was seen.
async fn never_switched(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    log: &Log,
    seen: Result<Seen, String>,
    status: &Status,
) -> Result<(), RunFolderError> {
    let live = status.colours[0].colour;
    scenario
        .judge("traffic was never moved", async {
            let expected = format!("{live} alone behind the active Service");
            let seen = seen.map_err(|seen| ground.trouble(&expected, seen))?;
            if let Some(at) = log.patched() {
                return Err(ground
                    .trouble("no switch", format!("one at {at:.0}"))
                    .into());
            }
            match seen.colours.as_slice() {
                [] => Err(Unmet::Inconclusive("nobody saw the active Service".into())),
                [one] if *one == live => Ok(((), format!("{live} in {} looks", seen.looks))),
                others => Err(ground.trouble(&expected, format!("{others:?}")).into()),
            }
        })
        .await?;
    Ok(())
}
