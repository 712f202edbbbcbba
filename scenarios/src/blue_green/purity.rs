//! SCENARIOS 3: before the switch, only the preview leads to the new version.

use std::time::Duration;

use base::wait::{self, Observation};
use blue_green::{Conclusion, Operation, ReleaseEvent};
use tokio_util::sync::CancellationToken;

use super::setup::Setup;
use super::traffic::{Lanes, Traffic};
use crate::{Mismatch, RunResult, Scenario, Unmet};

/// The answers that each route needs.
const ANSWERS: u64 = 500;

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let deployer = setup.deployer(setup.release, CancellationToken::new());
    let mut observe = async |event: &ReleaseEvent| scenario.progress(&event.what.to_string());
    let (version, manual) = (version.as_str(), true);
    let deploy = Operation::Deploy { version, manual };
    let at_gate = deployer.run(deploy, &mut observe).await;
    let up = scenario
        .evaluate("the new version waits at the gate", async {
            match at_gate {
                Ok(Conclusion::AtGate { version, colour }) => {
                    Ok(((), format!("{version} as {colour}")))
                }
                Ok(other) => setup.fail("the gate", format!("{other:?}")),
                Err(error) => setup.fail("the gate", error),
            }
        })
        .await?;
    if up.is_some() {
        if setup.subject.sabotage
            && let Err(mismatch) = both_are_active(setup).await
        {
            let claim = "both colours are behind the Service";
            scenario.record_failure(claim, mismatch).await?;
        }
        let old = &status.colours[0].version;
        let active = Traffic::start(setup, Lanes::quick()).await;
        answers_only(setup, scenario, "active", active, old).await?;
        let preview = Traffic::start(setup, Lanes::of_preview()).await;
        answers_only(setup, scenario, "preview", preview, version).await?;
        if setup.subject.sabotage {
            let _ = setup.select(Some(status.colours[0].colour)).await;
        }
    }
    let mut observe = async |event: &ReleaseEvent| scenario.progress(&event.what.to_string());
    let aborted = deployer.run(Operation::Abort, &mut observe).await;
    super::rolled_back(setup, scenario, aborted, &status).await
}

/// Sabotage: makes the active Service select both colours.
async fn both_are_active(setup: &Setup<'_>) -> Result<(), Mismatch> {
    let before = setup.endpoints().await?.len();
    setup.select(None).await?;
    let both = wait::until(
        "both colours are behind the active Service",
        Duration::from_secs(20),
        Duration::from_millis(200),
        async || match setup.endpoints().await {
            Ok(now) if now.len() > before => Observation::Ready(()),
            Ok(now) => Observation::NotYet(format!("{now:?}")),
            Err(mismatch) => Observation::NotYet(mismatch.seen),
        },
    );
    both.await.map_err(|error| setup.mismatch("both", error))
}

async fn answers_only(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    route: &str,
    traffic: Result<Traffic, Mismatch>,
    version: &str,
) -> RunResult {
    let recordings = match traffic {
        Ok(traffic) => {
            traffic.until(ANSWERS, super::traffic::A_WHILE).await;
            traffic.end().await
        }
        Err(mismatch) => Err(mismatch),
    };
    let claim = format!("the {route} route is answered by {version} only");
    scenario
        .evaluate(&claim, async {
            let recordings = recordings?;
            let answers = recordings.iter().flat_map(|it| &it.answers);
            let (mut right, mut wrong) = (0, 0);
            for answer in answers {
                match answer.version() {
                    Some(it) if it == version && answer.good => right += 1,
                    _ => wrong += 1,
                }
            }
            match (right, wrong) {
                (0, 0) => Err(Unmet::Inconclusive("there were no answers".into())),
                (_, 0) => Ok(((), format!("{right} of {right} answers"))),
                _ => {
                    let seen = format!("{wrong} of {} answers are not", right + wrong);
                    setup.fail(&format!("{version} only"), seen)
                }
            }
        })
        .await?;
    Ok(())
}
