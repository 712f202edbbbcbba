//! SCENARIOS 25: helm upgrades a release of any chart, and its Deployments replace their pods.
//!
//! Each starts and ends with the deployed version. With `--sabotage` each must fail.

mod bad_upgrades;
mod hook;
mod kill;
mod probes;
pub mod setup;
mod two_releases;
mod upgrade;
mod versions;

use std::path::Path;
use std::time::Duration;

use base::run::Run;
use environments::capability::Capability;
use helm::{DeployError, Release};
use kubernetes::Cluster;

pub use setup::Setup;

use crate::{RunResult, Scenario};

/// One scenario of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rolling {
    /// Another version of every release.
    Upgrade,
    /// A version whose image is not there.
    BadImage,
    /// A version that never becomes ready.
    NeverReady,
    /// A hook that fails.
    FailingHook,
    /// SIGKILL of helm.
    Kill,
    /// A second release of the chart, which takes over the traffic of the first.
    TwoReleases,
}

impl Rolling {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        self.about().0
    }

    /// What it proves.
    pub const fn claim(self) -> &'static str {
        self.about().1
    }

    /// The fault that breaks its claim on purpose.
    pub const fn sabotage(self) -> &'static str {
        self.about().2
    }

    /// Its number in SCENARIOS.
    pub const NUMBER: u32 = 25;

    /// The capabilities that it needs.
    pub const NEEDS: &'static [Capability] = &[Capability::Upgrades];

    const fn about(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Rolling::Upgrade => (
                "rolling/upgrade",
                "helm upgrades every release under load, and no request fails",
                "the pods are killed during the upgrade",
            ),
            Rolling::BadImage => (
                "rolling/bad-image",
                "an image that is not there is named, and the previous release is back",
                "the image is there",
            ),
            Rolling::NeverReady => (
                "rolling/never-ready",
                "a version that never becomes ready is named, and the previous release is back",
                "nobody rolls back",
            ),
            Rolling::FailingHook => (
                "rolling/failing-hook",
                "a hook that fails is named, and the previous release is back",
                "the release is upgraded without the hook",
            ),
            Rolling::Kill => (
                "rolling/kill",
                "after a SIGKILL of helm, the next deployment brings the previous release back",
                "nobody deploys again",
            ),
            Rolling::TwoReleases => (
                "rolling/two-releases",
                "a second release of the chart takes over the traffic of the first, and no request fails",
                "the second release has no pods when it takes over",
            ),
        }
    }
}

/// Runs a scenario.
pub async fn run(run: &mut Run, setup: &Setup<'_>, which: Rolling) -> RunResult {
    let mut scenario = Scenario::start(run, setup.subject, which.name(), which.claim())?;
    if setup.subject.sabotage {
        scenario.note(format!("sabotaged: {}", which.sabotage()))?;
    }
    let on = &mut scenario;
    match setup.missing(which) {
        Some(because) => on.skip(which.claim(), &because).await?,
        None => match which {
            Rolling::Upgrade => upgrade::run(setup, on).await?,
            Rolling::BadImage => bad_upgrades::bad_image(setup, on).await?,
            Rolling::NeverReady => bad_upgrades::never_ready(setup, on).await?,
            Rolling::FailingHook => bad_upgrades::failing_hook(setup, on).await?,
            Rolling::Kill => kill::run(setup, on).await?,
            Rolling::TwoReleases => two_releases::run(setup, on).await?,
        },
    }
    scenario.finish().await
}

/// Removes what cancelled scenarios have made, other than a version of the releases.
///
/// # Errors
/// The second release is not uninstalled.
pub async fn remove_leftovers(
    cluster: &Cluster,
    helm: &Path,
    second: Option<&Release>,
    deadline: Duration,
) -> Result<(), DeployError> {
    hook::remove(cluster).await;
    match second {
        Some(second) => two_releases::remove(cluster, helm, second, deadline).await,
        None => Ok(()),
    }
}

/// Deploys the version that was deployed before the scenarios, so that the environment is as before.
pub async fn put_back(run: &mut Run, setup: &Setup<'_>) -> RunResult {
    let claim = "the environment has its version again";
    let mut scenario = Scenario::start(run, setup.subject, "rolling/put-back", claim)?;
    let mut deployed = Vec::new();
    for release in setup.releases {
        let back = setup.deploy(&mut scenario, release).await;
        deployed.push(back.map(|it| format!("revision {} of {}", it.revision, it.release)));
    }
    let is_deployed = deployed.iter().all(Result::is_ok);
    scenario
        .check(claim, async {
            let deployed = deployed.into_iter().collect::<Result<Vec<_>, _>>();
            let deployed = deployed.map_err(|error| setup.mismatch("a deployment", error))?;
            Ok(((), deployed.join(" and ")))
        })
        .await?;
    if is_deployed {
        for release in setup.releases {
            let sources = setup.subject.version_sources;
            versions::check_served(setup, &mut scenario, release, sources).await?;
        }
    }
    scenario.finish().await
}
