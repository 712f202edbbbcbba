//! SCENARIOS 9 and 10: connections across the switch and the scale-down.

use harness::blue_green::Colour;
use harness::run::RunFolderError;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::attempt::release;
use super::ground::{self, Done, Ground, SERVICE};
use super::load::Lanes;
use super::traffic_checks::{Watched, none_of, nothing_failed};
use crate::{Scenario, Unmet};

/// SCENARIOS 9: requests of 20 s.
pub async fn drain(ground: &Ground<'_>, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
    let Some(watched) = watched(ground, scenario, Lanes::slow()).await? else {
        return Ok(());
    };
    let claim = "requests of 20 s across the switch and the scale-down are all answered";
    nothing_failed(scenario, ground, &watched, claim, |cut| {
        // Those that were on their way when traffic was moved, and were the old pods'.
        let patch = cut.phases.moments.patch;
        let answers = watched.recordings.iter().flat_map(|it| &it.answers);
        let across = answers.filter(|it| it.intended < patch && it.ended() > patch);
        match across.count() {
            0 => Err(Unmet::Inconclusive(
                "none was under way at the switch".into(),
            )),
            across => Ok(format!(
                "{across} across the switch; {}",
                none_of(&cut.overall())
            )),
        }
    })
    .await
}

/// SCENARIOS 10: pooled clients stay with the old version until it lets them go.
pub async fn keep_alive(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<(), RunFolderError> {
    let Some(watched) = watched(ground, scenario, Lanes::kept()).await? else {
        return Ok(());
    };
    let claim = "pinned connections are counted, and none is reset";
    nothing_failed(scenario, ground, &watched, claim, |cut| {
        let pinned = cut.pinned();
        match pinned.connections {
            0 => Err(Unmet::Inconclusive(
                "no connection stayed with the old version".into(),
            )),
            count => Ok(format!(
                "{count} pinned, the last until {:.1} s after the patch; 0 resets",
                pinned.until as f64 / 1e6
            )),
        }
    })
    .await
}

/// A release under these lanes. The sabotage takes from the pods what lets them end in peace.
async fn watched(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    lanes: Lanes,
) -> Result<Option<Watched>, RunFolderError> {
    let Some((status, version)) = super::begin(ground, scenario).await? else {
        return Ok(None);
    };
    let mut was = None;
    if ground.subject.sabotage {
        match no_pre_stop(ground, status.colours[0].colour).await {
            Ok(deployment) => was = Some(deployment),
            Err(mismatch) => {
                super::cannot(scenario, "pods end at once", mismatch).await?;
                return Ok(None);
            }
        }
    }
    let Some(load) = super::loaded(ground, scenario, lanes).await? else {
        if let Some(was) = was {
            let _ = ground.restore(status.colours[0].colour, &was).await;
        }
        return Ok(None);
    };
    // Long enough for the slowest to be under way.
    load.until(load.warm(), super::load::A_WHILE).await;
    let careless = ground::careless(ground.policy);
    let ground = &ground.or_careless(&careless);
    let tried = release(ground, scenario, &version).await;
    let recordings = load.end().await;
    if let Some(was) = was {
        // It has no pods any more.
        let _ = ground.restore(status.colours[0].colour, &was).await;
    }
    let is_live =
        super::is_live(ground, scenario, "the new version is live", tried.concluded).await?;
    let recordings = super::recorded(scenario, recordings).await?;
    Ok(is_live.and(recordings).map(|recordings| Watched {
        old: status.colours[0].version.clone(),
        new: version,
        log: tried.log,
        recordings,
    }))
}

/// The live pods end at SIGTERM, and hear of it at once, with requests under way: those of a
/// service that answers in no time are seldom cut.
async fn no_pre_stop(ground: &Ground<'_>, live: Colour) -> Done<Deployment> {
    let was = ground.deployment(live).await?;
    let hasty = json!({"spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": SERVICE,
            "lifecycle": null,
            "env": [
                {"name": "DRAIN_SECONDS", "value": "0"},
                {"name": "SHUTDOWN_SECONDS", "value": "0"},
                {"name": "FAULTS", "value": json!({"latency_ms": 100}).to_string()},
            ],
        }],
    }});
    ground.patch_template(live, hasty).await?;
    ground.complete(live).await?;
    Ok(was)
}
