//! SCENARIOS 2: a release under load that users do not notice.

use std::time::Duration;

use blue_green::{EventKind, ReleaseStep};

use super::attempt::attempt;
use super::replica_watch::ReplicaWatch;
use super::setup::Setup;
use super::traffic::Lanes;
use super::traffic_checks::{ObservedRelease, check_nothing_failed};
use crate::{RunResult, Scenario, Unmet};

/// Enough to bound the error rate at 0.01 % with 95 % confidence.
const REQUESTS: u64 = 30_000;

/// For that number of requests, and for the last requests of 20 s.
const TIMEOUT: Duration = Duration::from_secs(300);

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let lanes = match setup.subject.sabotage {
        // Enough for the failure, without requests of 20 s.
        true => Lanes::quick(),
        false => Lanes::full(),
    };
    let Some(traffic) = super::start_traffic(setup, scenario, lanes).await? else {
        return Ok(());
    };
    let replicas = ReplicaWatch::start(setup);
    let attempt = attempt(setup, scenario, &version, &mut async |event| {
        let switches = matches!(
            event.what,
            EventKind::Began {
                step: ReleaseStep::Switch
            }
        );
        if switches && setup.subject.sabotage {
            // A deployer with the steps in the wrong order.
            let _ = setup.empty(status.colours[0].colour).await;
        }
    })
    .await;
    traffic.until(REQUESTS, TIMEOUT).await;
    let recordings = traffic.end().await;
    let replicas = replicas.end();
    let claim = "the new version is live, and the old one gone";
    super::check_live(setup, scenario, claim, attempt.conclusion).await?;
    let Some(recordings) = super::recordings_or_fail(scenario, recordings).await? else {
        return Ok(());
    };
    let observed = ObservedRelease {
        old: status.colours[0].version.clone(),
        new: version,
        log: attempt.log,
        recordings,
        replicas,
    };
    check_nothing_failed(scenario, setup, &observed, "no request failed", |cut| {
        let overall = cut.overall();
        let requests = overall.requests;
        match requests >= REQUESTS {
            true => Ok(overall.failed_share()),
            false => Err(Unmet::Inconclusive(format!(
                "{requests} requests are fewer than {REQUESTS}"
            ))),
        }
    })
    .await?;
    only_green_at_the_end(setup, scenario, &observed).await
}

async fn only_green_at_the_end(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    observed: &ObservedRelease,
) -> RunResult {
    /// The length of the end, in microseconds.
    const END: u64 = 5_000_000;
    let claim = "at the end only the new version answers, through the ingress and inside";
    scenario
        .evaluate(claim, async {
            let mut counted = 0;
            for recording in &observed.recordings {
                let end = recording.answers.iter().map(|it| it.intended).max();
                let end = end.unwrap_or(0).saturating_sub(END);
                let last = recording.answers.iter().filter(|it| it.intended >= end);
                for answer in last {
                    counted += 1;
                    if answer.version() != Some(observed.new.as_str()) && answer.good {
                        let seen = format!("{:?} answered {}", answer.by, recording.from);
                        return setup.fail(&observed.new, seen);
                    }
                }
            }
            match counted {
                0 => Err(Unmet::Inconclusive(
                    "there were no answers at the end".into(),
                )),
                _ => {
                    let (service, new) = (setup.service(), &observed.new);
                    let seen = format!("{counted} answers of {service} in {new}");
                    Ok(((), seen))
                }
            }
        })
        .await?;
    Ok(())
}
