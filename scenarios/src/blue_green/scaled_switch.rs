//! SCENARIOS 11: the live colour has grown: the new one is as strong before it is live.

use harness::blue_green::Happened;
use harness::run::RunFolderError;

use super::attempt::attempt;
use super::ground::Ground;
use super::load::Lanes;
use crate::Scenario;

const SCALED_TO: i32 = 5;

pub async fn run(ground: &Ground<'_>, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let idle = status.colours[1].colour;
    let scaled = ground.scale(status.colours[0].colour, SCALED_TO).await;
    if let Err(mismatch) = scaled {
        return super::cannot(scenario, "the live colour has 5 pods", mismatch).await;
    }
    let Some(load) = super::loaded(ground, scenario, Lanes::quick()).await? else {
        return Ok(());
    };
    let mut ready_at_switch = None;
    let tried = attempt(ground, scenario, &version, &mut async |event| {
        if matches!(event.what, Happened::Patched { .. }) && ready_at_switch.is_none() {
            if ground.subject.sabotage {
                // As a fixed number of replicas would have it.
                let _ = ground.scale(idle, 2).await;
            }
            let sides = ground.status().await.map(|it| it.colours).ok();
            let side = sides.and_then(|it| it.into_iter().find(|it| it.colour == idle));
            ready_at_switch = side.map(|it| it.ready);
        }
    })
    .await;
    let _ = load.end().await;
    scenario
        .judge(
            "the new colour has at least 5 ready pods when traffic is moved",
            async {
                match (&tried.concluded, ready_at_switch) {
                    (Err(error), _) => Err(ground.trouble("a release", error).into()),
                    (Ok(_), Some(ready)) if ready >= SCALED_TO => {
                        Ok(((), format!("{ready} ready")))
                    }
                    (Ok(_), seen) => Err(ground.trouble("5 ready", format!("{seen:?}")).into()),
                }
            },
        )
        .await?;
    super::is_live(ground, scenario, "the new version is live", tried.concluded).await?;
    Ok(())
}
