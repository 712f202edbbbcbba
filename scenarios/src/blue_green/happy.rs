//! SCENARIOS 2: a release under load, and nobody notices.

use std::time::Duration;

use harness::blue_green::{Happened, Step};
use harness::run::RunFolderError;

use super::attempt::attempt;
use super::ground::{Ground, SERVICE};
use super::load::Lanes;
use super::traffic_checks::{Watched, none_of, nothing_failed};
use crate::{Scenario, Unmet};

/// As many as bound the error rate at 0.01 % with 95 % confidence.
const REQUESTS: u64 = 30_000;

/// For that many at the load's rate, and the 20 s requests at its end.
const AT_MOST: Duration = Duration::from_secs(300);

pub async fn run(ground: &Ground<'_>, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let lanes = match ground.subject.sabotage {
        // A failure is soon seen, and need not wait for requests of 20 s.
        true => Lanes::quick(),
        false => Lanes::full(),
    };
    let Some(load) = super::loaded(ground, scenario, lanes).await? else {
        return Ok(());
    };
    let tried = attempt(ground, scenario, &version, &mut async |event| {
        let switches = matches!(event.what, Happened::Began { step: Step::Switch });
        if switches && ground.subject.sabotage {
            // A deployer that has the order wrong.
            let _ = ground.empty(status.colours[0].colour).await;
        }
    })
    .await;
    load.until(REQUESTS, AT_MOST).await;
    let recordings = load.end().await;
    super::is_live(
        ground,
        scenario,
        "the new version is live, and the old one gone",
        tried.concluded,
    )
    .await?;
    let Some(recordings) = super::recorded(scenario, recordings).await? else {
        return Ok(());
    };
    let watched = Watched {
        old: status.colours[0].version.clone(),
        new: version,
        log: tried.log,
        recordings,
    };
    nothing_failed(scenario, ground, &watched, "no request failed", |cut| {
        let whole = cut.overall();
        match whole.requests >= REQUESTS {
            true => Ok(none_of(&whole)),
            false => Err(Unmet::Inconclusive(format!(
                "{} requests are fewer than {REQUESTS}",
                whole.requests
            ))),
        }
    })
    .await?;
    only_green_at_the_end(ground, scenario, &watched).await
}

async fn only_green_at_the_end(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    watched: &Watched,
) -> Result<(), RunFolderError> {
    const END: u64 = 5_000_000;
    let claim = "at the end only the new version answers, through the ingress and inside";
    scenario
        .judge(claim, async {
            let mut counted = 0;
            for recording in &watched.recordings {
                let end = recording.answers.iter().map(|it| it.intended).max();
                let end = end.unwrap_or(0).saturating_sub(END);
                let last = recording.answers.iter().filter(|it| it.intended >= end);
                for answer in last {
                    counted += 1;
                    if answer.version() != Some(watched.new.as_str()) && answer.good {
                        let seen = format!("{:?} answered {}", answer.by, recording.from);
                        return Err(ground.trouble(&watched.new, seen).into());
                    }
                }
            }
            match counted {
                0 => Err(Unmet::Inconclusive("nobody asked at the end".into())),
                _ => Ok((
                    (),
                    format!("{counted} answers of {SERVICE} in {}", watched.new),
                )),
            }
        })
        .await?;
    Ok(())
}
