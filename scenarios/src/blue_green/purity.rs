//! SCENARIOS 3: the new version is up and not switched to: only the preview shows it.

use std::time::Duration;

use harness::blue_green::{Ask, Conclusion, Event};
use harness::run::RunFolderError;
use harness::wait::{self, Observation};
use tokio_util::sync::CancellationToken;

use super::ground::{Done, Ground};
use super::load::{Lanes, Load};
use crate::{Scenario, Unmet};

/// For both routes to be asked often enough.
const ANSWERS: u64 = 500;

pub async fn run(ground: &Ground<'_>, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let deployer = ground.deployer(ground.release, CancellationToken::new());
    let mut observe = async |event: &Event| scenario.progress(&event.what.to_string());
    let (version, manual) = (version.as_str(), true);
    let ask = Ask::Deploy { version, manual };
    let at_gate = deployer.run(ask, &mut observe).await;
    let up = scenario
        .judge("the new version waits at the gate", async {
            match at_gate {
                Ok(Conclusion::AtGate { version, colour }) => {
                    Ok(((), format!("{version} as {colour}")))
                }
                Ok(other) => Err(ground.trouble("the gate", format!("{other:?}")).into()),
                Err(error) => Err(ground.trouble("the gate", error).into()),
            }
        })
        .await?;
    if up.is_some() {
        if ground.subject.sabotage
            && let Err(mismatch) = both_are_active(ground).await
        {
            super::cannot(scenario, "both colours are behind the Service", mismatch).await?;
        }
        let old = &status.colours[0].version;
        answers_only(
            ground,
            scenario,
            "active",
            Load::begin(ground, Lanes::quick()).await,
            old,
        )
        .await?;
        let preview = Load::begin(ground, Lanes::of_preview()).await;
        answers_only(ground, scenario, "preview", preview, version).await?;
        if ground.subject.sabotage {
            let _ = ground.select(Some(status.colours[0].colour)).await;
        }
    }
    let mut observe = async |event: &Event| scenario.progress(&event.what.to_string());
    let aborted = deployer.run(Ask::Abort, &mut observe).await;
    super::taken_back(ground, scenario, aborted, &status).await
}

/// Sabotage: the active Service leads to both colours.
async fn both_are_active(ground: &Ground<'_>) -> Done {
    let before = ground.endpoints().await?.len();
    ground.select(None).await?;
    let both = wait::until(
        "both colours are behind the active Service",
        Duration::from_secs(20),
        Duration::from_millis(200),
        async || match ground.endpoints().await {
            Ok(now) if now.len() > before => Observation::Ready(()),
            Ok(now) => Observation::NotYet(format!("{now:?}")),
            Err(mismatch) => Observation::NotYet(mismatch.seen),
        },
    );
    both.await.map_err(|error| ground.trouble("both", error))
}

async fn answers_only(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    route: &str,
    load: Done<Load>,
    version: &str,
) -> Result<(), RunFolderError> {
    let recordings = match load {
        Ok(load) => {
            load.until(ANSWERS, super::load::A_WHILE).await;
            load.end().await
        }
        Err(mismatch) => Err(mismatch),
    };
    let claim = format!("the {route} route is answered in {version} only");
    scenario
        .judge(&claim, async {
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
                (0, 0) => Err(Unmet::Inconclusive("nothing was asked".into())),
                (_, 0) => Ok(((), format!("{right} of {right} answers"))),
                _ => {
                    let seen = format!("{wrong} of {} answers are not", right + wrong);
                    Err(ground.trouble(&format!("{version} only"), seen).into())
                }
            }
        })
        .await?;
    Ok(())
}
