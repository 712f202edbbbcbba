//! SCENARIOS 11: the live colour has grown: the new one is as strong before it is live.

use harness::blue_green::{Ask, Colour, Conclusion, Event, Happened};
use harness::run::RunFolderError;
use tokio_util::sync::CancellationToken;

use super::attempt::attempt;
use super::ground::{Done, Ground};
use super::load::Lanes;
use crate::Scenario;

const SCALED_TO: i32 = 5;
/// What a deployer has that does not look at what is live.
const FIXED: i32 = 2;

pub async fn run(ground: &Ground<'_>, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let [live, idle] = status.colours.each_ref().map(|it| it.colour);
    if let Err(mismatch) = ground.scale(live, SCALED_TO).await {
        return super::cannot(scenario, "the live colour has 5 pods", mismatch).await;
    }
    if ground.subject.sabotage {
        let ready = switched_with_a_fixed_number(ground, &version, [live, idle]).await;
        let _ = ground.scale(live, status.colours[0].wanted).await;
        return is_as_strong(ground, scenario, ready).await;
    }
    let Some(load) = super::loaded(ground, scenario, Lanes::quick()).await? else {
        return Ok(());
    };
    let mut ready_at_switch = Err(ground.trouble("a switch", "none"));
    let tried = attempt(ground, scenario, &version, &mut async |event| {
        if matches!(event.what, Happened::Patched { .. }) && ready_at_switch.is_err() {
            ready_at_switch = ready(ground, idle).await;
        }
    })
    .await;
    let _ = load.end().await;
    is_as_strong(ground, scenario, ready_at_switch).await?;
    super::is_live(ground, scenario, "the new version is live", tried.concluded).await?;
    Ok(())
}

async fn is_as_strong(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    ready_at_switch: Done<i32>,
) -> Result<(), RunFolderError> {
    let claim = "the new colour has at least 5 ready pods when traffic is moved";
    scenario
        .judge(claim, async {
            match ready_at_switch? {
                ready if ready >= SCALED_TO => Ok(((), format!("{ready} ready"))),
                ready => Err(ground.trouble("5 ready", ready).into()),
            }
        })
        .await?;
    Ok(())
}

async fn ready(ground: &Ground<'_>, colour: Colour) -> Done<i32> {
    let sides = ground.status().await?.colours;
    let side = sides.iter().find(|it| it.colour == colour);
    Ok(side.map_or(0, |it| it.ready))
}

/// What a deployer does that does not look at what is live: up to the gate it is ours.
async fn switched_with_a_fixed_number(
    ground: &Ground<'_>,
    version: &str,
    [live, idle]: [Colour; 2],
) -> Done<i32> {
    let deployer = ground.deployer(ground.release, CancellationToken::new());
    let manual = true;
    let ask = Ask::Deploy { version, manual };
    let nobody = &mut async |_: &Event| {};
    match deployer.run(ask, nobody).await {
        Ok(Conclusion::AtGate { .. }) => {}
        other => return Err(ground.trouble("the gate", format!("{other:?}"))),
    }
    let switched = async {
        ground.scale(idle, FIXED).await?;
        ground.select(Some(idle)).await?;
        ready(ground, idle).await
    };
    let ready = switched.await;
    ground.select(Some(live)).await?;
    let aborted = deployer.run(Ask::Abort, nobody).await;
    aborted.map_err(|error| ground.trouble("a release that is taken back", error))?;
    ready
}
