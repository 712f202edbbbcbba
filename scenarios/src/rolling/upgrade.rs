//! Another version of every release, under load.

use std::time::Instant;

use helm::{DeployError, Deployed, Release};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use kubernetes::prober::now;

use super::Setup;
use super::probes::{self, check_nothing_failed};
use super::versions::check_served;
use crate::{Mismatch, RunResult, Scenario};

/// For a bound of the error rate: 0.1 % with 95 % confidence.
const REQUESTS: u64 = 3_000;

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some(probes) = probes::start(setup, scenario).await? else {
        return Ok(());
    };
    let since = now();
    for release in setup.next {
        let started = Instant::now();
        let upgraded = match setup.subject.sabotage {
            true => killed_meanwhile(setup, scenario, release).await,
            false => setup.deploy(scenario, release).await,
        };
        let claim = format!("the release {} is upgraded", release.name);
        let checked = scenario
            .check(&claim, async {
                let upgraded = upgraded.map_err(|error| setup.mismatch("an upgrade", error))?;
                let revision = upgraded.revision;
                let seconds = started.elapsed().as_secs_f64();
                Ok(((), format!("revision {revision} in {seconds:.1} s")))
            })
            .await?;
        if checked.is_none() {
            break;
        }
        let sources = setup.subject.version_sources.of_tags();
        check_served(setup, scenario, release, &sources).await?;
    }
    probes.until(REQUESTS).await;
    check_nothing_failed(setup, scenario, probes, (REQUESTS, since)).await
}

/// Upgrades a release, and kills all its pods at once.
async fn killed_meanwhile(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    release: &Release,
) -> Result<Deployed, DeployError> {
    let (upgraded, _) = tokio::join!(
        setup.deploy(scenario, release),
        kill_all_pods(setup, release)
    );
    upgraded
}

async fn kill_all_pods(setup: &Setup<'_>, release: &Release) -> Result<(), Mismatch> {
    let workloads = setup.workloads(release).await?;
    let now = DeleteParams::default().grace_period(0);
    for pod in workloads.staying_pods() {
        let deleted = setup
            .cluster
            .api::<Pod>()
            .delete(&pod.name_any(), &now)
            .await;
        deleted.map_err(|error| setup.mismatch("a pod that can be deleted", error))?;
    }
    Ok(())
}
