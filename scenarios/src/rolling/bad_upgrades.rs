//! Upgrades that must fail, and leave the previous release.

use std::time::{Duration, Instant};

use helm::{DeployError, Deployed, Release};
use kubernetes::prober::now;

use super::Setup;
use super::hook::{self, ChartWithHook, Hook};
use super::probes::{self, check_nothing_failed};
use super::setup::Images;
use super::versions::check_served;
use crate::{Mismatch, RunResult, Scenario};

/// A version that is not ready then never will be.
const READY_WITHIN: Duration = Duration::from_secs(40);

/// A version whose images are in no registry and on no node.
pub async fn bad_image(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some(at) = setup.versioned() else {
        return Ok(());
    };
    let (good, absent) = (&setup.releases[at], &setup.absent[at]);
    let bad = match setup.subject.sabotage {
        true => &setup.next[at],
        false => absent,
    };
    let expected = format!("an image of {}", absent.version);
    let names_it = |words: &str| words.contains(&absent.version);
    refused(
        setup,
        scenario,
        good,
        bad,
        setup.deadline,
        &expected,
        names_it,
    )
    .await
}

/// The deployed version, with values that make it never ready.
pub async fn never_ready(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some(unready) = setup.unready else {
        return Ok(());
    };
    let (good, bad) = (&setup.releases[0], &unready[0]);
    let names_it = |words: &str| words.contains("ready");
    let expected = "a container that does not become ready";
    refused(setup, scenario, good, bad, READY_WITHIN, expected, names_it).await
}

/// The next version, with a hook whose container cannot start.
pub async fn failing_hook(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let (good, next) = (&setup.releases[0], &setup.next[0]);
    let added = async {
        let images = setup.images(good).await?;
        let image = images.into_values().flatten().next();
        let image = image.ok_or_else(|| setup.mismatch("a container of the release", "none"))?;
        ChartWithHook::of(setup, next, Hook::Fails { image: &image }).await
    };
    let chart = match added.await {
        Ok(chart) => chart,
        Err(mismatch) => return scenario.record_failure("a hook is added", mismatch).await,
    };
    let bad = match setup.subject.sabotage {
        true => next,
        false => &chart.release,
    };
    let names_it = |words: &str| words.contains(hook::NAME);
    let expected = "the hook";
    refused(
        setup,
        scenario,
        good,
        bad,
        setup.deadline,
        expected,
        names_it,
    )
    .await?;
    // If this fails, the next upgrade with a hook deletes it first.
    hook::remove(setup.cluster).await;
    Ok(())
}

/// Upgrades `good` to `bad`, which must fail with a cause that `names_it`. Then rolls back, and
/// checks that nothing has changed and that no request failed.
async fn refused(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    good: &Release,
    bad: &Release,
    deadline: Duration,
    expected: &str,
    names_it: impl Fn(&str) -> bool,
) -> RunResult {
    let Some((deployed, images)) = start(setup, scenario, good).await? else {
        return Ok(());
    };
    let Some(probes) = probes::start(setup, scenario).await? else {
        return Ok(());
    };
    let (since, started) = (now(), Instant::now());
    let upgraded = setup.deploy_within(scenario, bad, deadline).await;
    let claim = "the upgrade fails, and its cause is named";
    scenario
        .check(claim, async {
            let seconds = started.elapsed().as_secs_f64();
            match upgraded {
                Err(error) if names_it(&error.to_string()) => {
                    Ok(((), format!("after {seconds:.1} s: {error}")))
                }
                Err(error) => Err(setup.mismatch(&format!("a cause that names {expected}"), error)),
                Ok(_) => Err(setup.mismatch("an upgrade that fails", "it succeeded")),
            }
        })
        .await?;
    let rolled_back = match setup.subject.sabotage {
        true => Ok(()),
        false => roll_back(setup, scenario, good, deployed.revision).await,
    };
    check_back(setup, scenario, good, rolled_back, &images).await?;
    check_nothing_failed(setup, scenario, probes, (1, since)).await
}

/// Deploys the release, so that its newest revision is what is live. Returns it with its images.
pub async fn start(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    good: &Release,
) -> RunResult<Option<(Deployed, Images)>> {
    let deployed = setup.deploy(scenario, good).await;
    let images = setup.images(good).await;
    let claim = format!("the release {} is complete", good.name);
    scenario
        .check(&claim, async {
            let deployed = deployed.map_err(|error| setup.mismatch("a deployment", error))?;
            let seen = format!("revision {}", deployed.revision);
            Ok(((deployed, images?), seen))
        })
        .await
}

async fn roll_back(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    release: &Release,
    revision: u32,
) -> Result<(), DeployError> {
    let progress = scenario.progress_reporter();
    let (cluster, helm, deadline) = (setup.cluster, setup.helm, setup.deadline);
    helm::roll_back(cluster, helm, release, revision, deadline, &progress).await
}

/// Checks that the release's Deployments have their images again and are complete, and that its
/// services serve its version.
pub async fn check_back(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    release: &Release,
    rolled_back: Result<(), DeployError>,
    before: &Images,
) -> RunResult {
    let back = async {
        rolled_back.map_err(|error| setup.mismatch("a release that is rolled back", error))?;
        let incomplete = setup.incomplete(release).await?;
        let images = setup.images(release).await?;
        Ok::<_, Mismatch>((incomplete, images))
    };
    let back = back.await;
    let checked = scenario
        .check("the previous release is back", async {
            let (incomplete, images) = back?;
            match incomplete.is_empty() {
                true if images == *before => {
                    let count = images.len();
                    Ok((
                        (),
                        format!("{count} Deployments have their images, and are complete"),
                    ))
                }
                true => Err(setup.mismatch(&format!("{before:?}"), format!("{images:?}"))),
                false => Err(setup.mismatch("complete Deployments", incomplete.join("; "))),
            }
        })
        .await?;
    match checked {
        Some(()) => check_served(setup, scenario, release, setup.subject.version_sources).await,
        None => Ok(()),
    }
}
