//! SCENARIOS 11: if the live colour was scaled up, the new one has as many pods before the switch.

use blue_green::{Colour, Conclusion, EventKind, Operation, ReleaseEvent};
use tokio_util::sync::CancellationToken;

use super::attempt::attempt;
use super::setup::Setup;
use super::traffic::Lanes;
use crate::{Mismatch, RunResult, Scenario};

const SCALED_TO: i32 = 5;
/// The number of pods that a deployer with a fixed number would start.
const FIXED: i32 = 2;

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let [live, idle] = status.colours.each_ref().map(|it| it.colour);
    if let Err(mismatch) = setup.scale(live, SCALED_TO).await {
        let claim = "the live colour has 5 pods";
        return scenario.record_failure(claim, mismatch).await;
    }
    if setup.subject.sabotage {
        let ready = switched_with_a_fixed_number(setup, &version, [live, idle]).await;
        let _ = setup.scale(live, status.colours[0].wanted).await;
        return check_ready_pods(setup, scenario, ready).await;
    }
    let Some(traffic) = super::start_traffic(setup, scenario, Lanes::quick()).await? else {
        return Ok(());
    };
    let mut ready_at_switch = Err(setup.mismatch("a switch", "none"));
    let attempt = attempt(setup, scenario, &version, &mut async |event| {
        if matches!(event.what, EventKind::Patched { .. }) && ready_at_switch.is_err() {
            ready_at_switch = ready(setup, idle).await;
        }
    })
    .await;
    let _ = traffic.end().await;
    check_ready_pods(setup, scenario, ready_at_switch).await?;
    let claim = "the new version is live";
    super::check_live(setup, scenario, claim, attempt.conclusion).await?;
    Ok(())
}

async fn check_ready_pods(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    ready_at_switch: Result<i32, Mismatch>,
) -> RunResult {
    let claim = "the new colour has at least 5 ready pods when traffic is moved";
    scenario
        .evaluate(claim, async {
            match ready_at_switch? {
                ready if ready >= SCALED_TO => Ok(((), format!("{ready} ready"))),
                ready => setup.fail("5 ready", ready),
            }
        })
        .await?;
    Ok(())
}

async fn ready(setup: &Setup<'_>, colour: Colour) -> Result<i32, Mismatch> {
    let sides = setup.status().await?.colours;
    let side = sides.iter().find(|it| it.colour == colour);
    Ok(side.map_or(0, |it| it.ready))
}

/// Sabotage: runs a deployer up to the gate, and then switches with a fixed number of pods.
async fn switched_with_a_fixed_number(
    setup: &Setup<'_>,
    version: &str,
    [live, idle]: [Colour; 2],
) -> Result<i32, Mismatch> {
    let deployer = setup.deployer(setup.release, CancellationToken::new());
    let manual = true;
    let deploy = Operation::Deploy { version, manual };
    let ignore = &mut async |_: &ReleaseEvent| {};
    match deployer.run(deploy, ignore).await {
        Ok(Conclusion::AtGate { .. }) => {}
        other => return Err(setup.mismatch("the gate", format!("{other:?}"))),
    }
    let switched = async {
        setup.scale(idle, FIXED).await?;
        setup.select(Some(idle)).await?;
        ready(setup, idle).await
    };
    let ready = switched.await;
    setup.select(Some(live)).await?;
    let aborted = deployer.run(Operation::Abort, ignore).await;
    aborted.map_err(|error| setup.mismatch("a release that is rolled back", error))?;
    ready
}
