//! SCENARIOS 9 and 10: connections across the switch and the scale-down.

use blue_green::Colour;
use environments::config::PodFault;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::attempt::release;
use super::replica_watch::ReplicaWatch;
use super::setup::{self, Setup};
use super::traffic::Lanes;
use super::traffic_checks::{ObservedRelease, check_nothing_failed};
use crate::{Mismatch, RunResult, Scenario, Unmet};

/// SCENARIOS 9: requests of 20 s.
pub async fn drain(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some(observed) = observed(setup, scenario, Lanes::slow()).await? else {
        return Ok(());
    };
    let claim = "requests of 20 s across the switch and the scale-down are all answered";
    check_nothing_failed(scenario, setup, &observed, claim, |cut| {
        // Requests to the old pods that were in flight when traffic was moved.
        let patch = cut.phases.moments.patch;
        let answers = observed.recordings.iter().flat_map(|it| &it.answers);
        let across = answers.filter(|it| it.intended < patch && it.ended() > patch);
        match across.count() {
            0 => Err(Unmet::Inconclusive(
                "none was in flight at the switch".into(),
            )),
            across => Ok(format!(
                "{across} across the switch; {}",
                cut.overall().failed_share()
            )),
        }
    })
    .await
}

/// SCENARIOS 10: pooled connections stay with the old version until it closes them.
pub async fn keep_alive(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some(observed) = observed(setup, scenario, Lanes::pooled()).await? else {
        return Ok(());
    };
    let claim = "pinned connections are counted, and none is reset";
    check_nothing_failed(scenario, setup, &observed, claim, |cut| {
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

/// Releases a version with this traffic. With sabotage, the pods do not shut down gracefully.
async fn observed(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    lanes: Lanes,
) -> RunResult<Option<ObservedRelease>> {
    let Some((status, version)) = super::start(setup, scenario).await? else {
        return Ok(None);
    };
    let live = status.colours[0].colour;
    let mut original = None;
    if setup.subject.sabotage {
        match no_pre_stop(setup, live).await {
            Ok(deployment) => original = Some(deployment),
            Err(mismatch) => {
                scenario
                    .record_failure("pods end at once", mismatch)
                    .await?;
                return Ok(None);
            }
        }
    }
    let Some(traffic) = super::start_traffic(setup, scenario, lanes).await? else {
        if let Some(original) = original {
            let _ = setup.restore(live, &original).await;
        }
        return Ok(None);
    };
    // Until the slowest requests are in flight.
    traffic.until(traffic.warm(), super::traffic::A_WHILE).await;
    let without_analysis = setup::without_analysis(setup.policy);
    let setup = &setup.or_without_analysis(&without_analysis);
    let replicas = ReplicaWatch::start(setup);
    let attempt = release(setup, scenario, &version).await;
    let recordings = traffic.end().await;
    let replicas = replicas.end();
    if let Some(original) = original {
        // The colour has no pods now.
        let _ = setup.restore(live, &original).await;
    }
    let claim = "the new version is live";
    let released = super::check_live(setup, scenario, claim, attempt.conclusion).await?;
    let recordings = super::recordings_or_fail(scenario, recordings).await?;
    Ok(released.and(recordings).map(|recordings| ObservedRelease {
        old: status.colours[0].version.clone(),
        new: version,
        log: attempt.log,
        recordings,
        replicas,
    }))
}

/// Makes the live pods exit at SIGTERM, without preStop. They answer late, so that there are always
/// requests in flight. Returns the original Deployment.
async fn no_pre_stop(setup: &Setup<'_>, live: Colour) -> Result<Deployment, Mismatch> {
    let original = setup.deployment(live).await?;
    let mut env = Vec::new();
    if let Some(faults) = &setup.config.faults {
        let ungraceful = faults.ungraceful.iter();
        env.extend(ungraceful.map(|(name, value)| json!({"name": name, "value": value})));
        env.push(json!({"name": faults.variable, "value": faults.text(PodFault::Slow)}));
    }
    let name = setup.container_of(&original)?;
    let hasty = json!({"spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": name, "lifecycle": null, "env": env}],
    }});
    setup.patch_template(live, hasty).await?;
    setup.complete(live).await?;
    Ok(original)
}
