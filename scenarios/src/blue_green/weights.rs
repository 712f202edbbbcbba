//! SCENARIOS 8, of a release that begins with a share of the ingress' traffic.

use std::time::Duration;

use harness::blue_green::canary::Canary;
use harness::blue_green::{Happened, Policy, Step};
use harness::prober::{Answer, Recording, Vantage};
use harness::run::RunFolderError;
use harness::wait::{self, Observation};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams};
use reqwest::Method;
use serde_json::json;

use super::attempt::attempt;
use super::bad_releases::reverts;
use super::ground::{Done, Ground, SERVICE};
use super::load::Lanes;
use super::log::Log;
use super::traffic_checks::{Watched, none_of, nothing_failed};
use crate::client::Client;
use crate::{Scenario, Unmet};

/// Of 100 requests, before the switch.
const SHARE: u8 = 20;

/// What that may be seen as: the ingress takes turns, and connections are kept.
const SEEN: std::ops::RangeInclusive<f64> = 0.1..=0.3;

const HEADER: &str = "x-trii-preview";

/// For the ingress to follow what it is told.
const FOLLOWS: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A share goes to the new version, from outside alone, and then all traffic.
pub async fn weighted(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let policy = with_a_share(ground);
    let ground = &ground.with_policy(&policy);
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let Some(load) = super::loaded(ground, scenario, Lanes::shared()).await? else {
        return Ok(());
    };
    let old = status.colours[0].version.clone();
    let mut shown = None;
    let tried = attempt(
        ground,
        scenario,
        &version,
        &mut async |event| match &event.what {
            Happened::PreviewHeaderSet { .. } => {
                shown = Some(reached_by_header(ground, &old, &version).await);
            }
            Happened::CanaryWeightSet { .. } if ground.subject.sabotage => {
                let _ = delete_canary(ground).await;
            }
            _ => {}
        },
    )
    .await;
    let recordings = load.end().await;
    scenario
        .judge(
            "requests with the header reach the new version, and others do not",
            async {
                match shown {
                    Some(shown) => Ok(((), shown?)),
                    None => Err(ground
                        .trouble("a header that is honoured", "none was told")
                        .into()),
                }
            },
        )
        .await?;
    let concluded = tried.concluded;
    let claim = "the new version is live, and the old one gone";
    super::is_live(ground, scenario, claim, concluded).await?;
    let Some(recordings) = super::recorded(scenario, recordings).await? else {
        return Ok(());
    };
    let watched = Watched {
        old,
        new: version,
        log: tried.log,
        recordings,
    };
    shares(ground, scenario, &watched).await?;
    nothing_failed(scenario, ground, &watched, "no request failed", |cut| {
        Ok(none_of(&cut.overall()))
    })
    .await
}

/// What does not hold with a share of the traffic never gets more.
pub async fn bad_share(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let policy = with_a_share(ground);
    let ground = &ground.with_policy(&policy);
    let faults = json!({"error_share": 0.5});
    let fault = async |happened: &Happened, idle| match happened {
        Happened::CanaryWeightSet { .. } => ground.put_faults_on_all(idle, &faults).await,
        Happened::Patched { to, .. } if *to == idle => {
            Err(ground.trouble("no more than a share of the traffic", "all of it"))
        }
        _ => Ok(()),
    };
    reverts(ground, scenario, "errors", fault).await
}

fn with_a_share(ground: &Ground<'_>) -> Policy {
    Policy {
        canary: Some(Canary {
            weights: vec![SHARE],
            header: Some(HEADER.to_owned()),
        }),
        ..ground.policy.clone()
    }
}

/// Deletes the canary Ingress.
async fn delete_canary(ground: &Ground<'_>) -> Done {
    let api: Api<Ingress> = ground.api();
    let name = format!("{SERVICE}-canary");
    let deleted = api.delete(&name, &DeleteParams::default()).await;
    deleted
        .map(drop)
        .map_err(|error| ground.trouble("a canary Ingress", error))
}

/// Asks the way that users come: with the header, and without.
async fn reached_by_header(ground: &Ground<'_>, old: &str, new: &str) -> Done<String> {
    let subject = ground.subject;
    let client = Client::new(subject.environment, subject.entry);
    let client = client.map_err(|error| ground.trouble("a way in", error))?;
    let version = async |value: Option<&str>| {
        let call = client.api(Method::GET, "/market-data/quotes");
        let call = match value {
            Some(value) => call.header(HEADER, value),
            None => call,
        };
        let answer = call.send().await?;
        Ok::<_, crate::Mismatch>(answer.headers.get("x-trii-version").cloned())
    };
    let mut seen = String::new();
    let reached = wait::until("the header is honoured", FOLLOWS, LOOK_EVERY, async || {
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
            "`{HEADER}: always` is answered in {new}, without it in {old}"
        )),
        Err(_) => Err(ground.trouble(&format!("{new} with the header, {old} without"), seen)),
    }
}

/// Which version answered, from when the ingress had taken up the share until all traffic moved.
async fn shares(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    watched: &Watched,
) -> Result<(), RunFolderError> {
    scenario
        .judge(
            "a share of the ingress' requests is answered by the new version, and none inside",
            async {
                let Some((from, to)) = weighted_between(&watched.log) else {
                    let expected = format!("{SHARE} % of the traffic, and then all of it");
                    return Err(ground
                        .trouble(&expected, "the release never came to it")
                        .into());
                };
                let [outside, inside] = [Vantage::Outside, Vantage::Inside]
                    .map(|vantage| share(watched, &watched.new, vantage, from, to));
                let seen = format!("{} outside, {} inside", outside.text(), inside.text());
                if outside.all == 0 || inside.all == 0 {
                    return Err(Unmet::Inconclusive(seen));
                }
                match SEEN.contains(&outside.share()) && inside.of == 0 {
                    true => Ok(((), seen)),
                    false => {
                        let expected = format!("{SHARE} of 100 outside, none inside");
                        Err(ground.trouble(&expected, seen).into())
                    }
                }
            },
        )
        .await?;
    Ok(())
}

/// Since the Unix epoch, microseconds.
fn weighted_between(log: &Log) -> Option<(u64, u64)> {
    const FOLLOWED: Duration = Duration::from_secs(3);
    let micros = |at: Timestamp| u64::try_from(at.as_microsecond()).unwrap_or(0);
    Some((
        micros(log.canary_weight_set()? + FOLLOWED),
        micros(log.began(Step::Switch)?),
    ))
}

struct Share {
    of: usize,
    all: usize,
}

impl Share {
    fn share(&self) -> f64 {
        self.of as f64 / self.all as f64
    }

    fn text(&self) -> String {
        format!("{} of {} answers", self.of, self.all)
    }
}

/// How many answers of one vantage are in `version`.
fn share(watched: &Watched, version: &str, from: Vantage, begin: u64, end: u64) -> Share {
    let its = |it: &&Recording| it.from == from;
    let answers = watched.recordings.iter().filter(its);
    let answers = answers.flat_map(|it| &it.answers);
    let meanwhile = |it: &&Answer| (begin..end).contains(&it.intended);
    let versions: Vec<_> = answers
        .filter(meanwhile)
        .filter_map(Answer::version)
        .collect();
    Share {
        of: versions.iter().filter(|it| **it == version).count(),
        all: versions.len(),
    }
}
