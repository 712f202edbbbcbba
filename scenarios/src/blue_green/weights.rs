//! SCENARIOS 8, with a release that starts with a share of the ingress' traffic.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use base::wait::{self, Observation};
use blue_green::policy::Canary;
use blue_green::{EventKind, Policy, ReleaseStep};
use environments::config::PodFault;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams};
use kubernetes::prober::{Answer, Vantage};
use reqwest::Method;

use super::attempt::{EventLog, attempt};
use super::bad_releases::reverts;
use super::release_traffic::micros;
use super::replica_watch::ReplicaWatch;
use super::setup::Setup;
use super::traffic::Lanes;
use super::traffic_checks::{ObservedRelease, check_nothing_failed};
use crate::client::PlatformClient;
use crate::{Mismatch, RunResult, Scenario, Unmet};

/// The share of the requests before the switch, in percent.
const SHARE: u8 = 20;

/// The range of the measured share: the ingress takes turns, and connections are pooled.
const MEASURED: RangeInclusive<f64> = 0.1..=0.3;

const HEADER: &str = "x-preview";

/// For the ingress to apply a change.
const INGRESS_UPDATE: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(200);

/// First a share of the traffic from outside reaches the new version, then all traffic.
pub async fn weighted(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let policy = with_a_share(setup);
    let setup = &setup.with_policy(&policy);
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let Some(traffic) = super::start_traffic(setup, scenario, Lanes::shared()).await? else {
        return Ok(());
    };
    let old = status.colours[0].version.clone();
    let mut header_works = None;
    let replicas = ReplicaWatch::start(setup);
    let attempt = attempt(
        setup,
        scenario,
        &version,
        &mut async |event| match &event.what {
            EventKind::PreviewHeaderSet { .. } => {
                header_works = Some(reached_by_header(setup, &old, &version).await);
            }
            EventKind::CanaryWeightSet { .. } if setup.subject.sabotage => {
                let _ = delete_canary(setup).await;
            }
            _ => {}
        },
    )
    .await;
    let recordings = traffic.end().await;
    let replicas = replicas.end();
    let claim = "requests with the header reach the new version, and others do not";
    scenario
        .evaluate(claim, async {
            match header_works {
                Some(seen) => Ok(((), seen?)),
                None => setup.fail("a header that is honoured", "the deployer set none"),
            }
        })
        .await?;
    let conclusion = attempt.conclusion;
    let claim = "the new version is live, and the old one gone";
    super::check_live(setup, scenario, claim, conclusion).await?;
    let Some(recordings) = super::recordings_or_fail(scenario, recordings).await? else {
        return Ok(());
    };
    let observed = ObservedRelease {
        old,
        new: version,
        log: attempt.log,
        recordings,
        replicas,
    };
    check_shares(setup, scenario, &observed).await?;
    check_nothing_failed(scenario, setup, &observed, "no request failed", |cut| {
        Ok(cut.overall().failed_share())
    })
    .await
}

/// A version that fails with a share of the traffic never receives more.
pub async fn bad_share(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let policy = with_a_share(setup);
    let setup = &setup.with_policy(&policy);
    let fault = async |event: &EventKind, idle| match event {
        EventKind::CanaryWeightSet { .. } => {
            setup.put_fault_on_all(idle, PodFault::SomeErrors).await
        }
        EventKind::Patched { to, .. } if *to == idle => {
            Err(setup.mismatch("no more than a share of the traffic", "all of it"))
        }
        _ => Ok(()),
    };
    reverts(setup, scenario, "errors", fault).await
}

fn with_a_share(setup: &Setup<'_>) -> Policy {
    Policy {
        canary: Some(Canary {
            weights: vec![SHARE],
            header: Some(HEADER.to_owned()),
        }),
        ..setup.policy.clone()
    }
}

/// Deletes the canary Ingress.
async fn delete_canary(setup: &Setup<'_>) -> Result<(), Mismatch> {
    let api: Api<Ingress> = setup.api();
    let name = format!("{}-canary", setup.service());
    let deleted = api.delete(&name, &DeleteParams::default()).await;
    deleted
        .map(drop)
        .map_err(|error| setup.mismatch("a canary Ingress", error))
}

/// Sends requests as users do, with and without the header.
async fn reached_by_header(setup: &Setup<'_>, old: &str, new: &str) -> Result<String, Mismatch> {
    let subject = setup.subject;
    let client = PlatformClient::new(subject.environment, subject.entry);
    let client = client.map_err(|error| setup.mismatch("an HTTP client", error))?;
    let Some(name) = &subject.version_sources.headers.version else {
        let expected = "a header that names the version, in [platform.headers] of harness.toml";
        return Err(setup.mismatch(expected, "none"));
    };
    let users = &setup.config.request;
    let version = async |value: Option<&str>| {
        let request = client.to(&users.host, Method::GET, &users.path_at_ingress);
        let request = match value {
            Some(value) => request.header(HEADER, value),
            None => request,
        };
        let response = request.send().await?;
        Ok::<_, Mismatch>(response.headers.get(name.as_str()).cloned())
    };
    let mut seen = String::new();
    let what = "the header is honoured";
    let reached = wait::until(what, INGRESS_UPDATE, POLL_EVERY, async || {
        let (with, without) = (version(Some("always")).await, version(None).await);
        seen = format!("{with:?} with it, {without:?} without");
        match (with, without) {
            (Ok(Some(with)), Ok(Some(without))) if with == new && without == old => {
                Observation::Ready(())
            }
            _ => Observation::NotYet(seen.clone()),
        }
    });
    match reached.await {
        Ok(()) => Ok(format!(
            "`{HEADER}: always` is answered by {new}, without it by {old}"
        )),
        Err(_) => Err(setup.mismatch(&format!("{new} with the header, {old} without"), seen)),
    }
}

/// Checks which versions answered between the ingress' update to the share and the switch.
async fn check_shares(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    observed: &ObservedRelease,
) -> RunResult {
    let claim = "a share of the ingress' requests is answered by the new version, and none inside";
    scenario
        .evaluate(claim, async {
            let Some(period) = weighted_period(&observed.log) else {
                let expected = format!("{SHARE} % of the traffic, and then all of it");
                return setup.fail(&expected, "the release did not get that far");
            };
            let [(outside, all_outside), (inside, all_inside)] =
                [Vantage::Outside, Vantage::Inside].map(|from| share(observed, from, &period));
            let seen = format!(
                "{outside} of {all_outside} answers outside, {inside} of {all_inside} answers inside"
            );
            if all_outside == 0 || all_inside == 0 {
                return Err(Unmet::Inconclusive(seen));
            }
            let measured = outside as f64 / all_outside as f64;
            match MEASURED.contains(&measured) && inside == 0 {
                true => Ok(((), seen)),
                false => {
                    let expected = format!("{SHARE} of 100 outside, none inside");
                    setup.fail(&expected, seen)
                }
            }
        })
        .await?;
    Ok(())
}

/// Returns the period in which only the share went to the new version, in microseconds since the
/// Unix epoch.
fn weighted_period(log: &EventLog) -> Option<Range<u64>> {
    const UPDATED: Duration = Duration::from_secs(3);
    let begin = micros(log.canary_weight_set()? + UPDATED);
    Some(begin..micros(log.began(ReleaseStep::Switch)?))
}

/// Counts the answers of the new version in this period, and all answers in it.
fn share(observed: &ObservedRelease, from: Vantage, period: &Range<u64>) -> (usize, usize) {
    let recordings = observed.recordings.iter().filter(|it| it.from == from);
    let answers = recordings.flat_map(|it| &it.answers);
    let in_period = answers.filter(|it| period.contains(&it.intended));
    let versions: Vec<_> = in_period.filter_map(Answer::version).collect();
    let new = versions.iter().filter(|it| **it == observed.new).count();
    (new, versions.len())
}
