//! SCENARIOS 2 to 14 and 28: one service, released from one colour to the other.
//!
//! Each begins and ends with one live colour and the other at 0. Each can be broken on
//! purpose (`--sabotage`), and must then say so.

mod attempt;
mod bad_releases;
mod connections;
pub mod ground;
mod happy;
mod kill;
mod load;
mod log;
mod purity;
mod race;
mod re_apply;
mod scaled_switch;
mod traffic_checks;
mod watch;
mod weights;

use harness::blue_green::{BlueGreenError, Conclusion, Status};
use harness::capability::Capability;
use harness::prober::Recording;
use harness::run::{Run, RunFolderError};

pub use ground::{Ground, Program, SERVICE, release_of};

use crate::{Mismatch, Scenario};
use load::{Lanes, Load};

/// One scenario of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlueGreen {
    /// SCENARIOS 2.
    Happy,
    /// SCENARIOS 3.
    Purity,
    /// SCENARIOS 4.
    BadImage,
    /// SCENARIOS 5.
    NeverReady,
    /// SCENARIOS 6.
    BadHealth,
    /// SCENARIOS 7.
    BadSmoke,
    /// SCENARIOS 8.
    SlowGreen,
    /// SCENARIOS 8, of answers that never come.
    SilentGreen,
    /// SCENARIOS 9.
    Drain,
    /// SCENARIOS 10.
    KeepAlive,
    /// SCENARIOS 11.
    ScaledSwitch,
    /// SCENARIOS 12.
    Race,
    /// SCENARIOS 13.
    Kill,
    /// SCENARIOS 14.
    NoData,
    /// SCENARIOS 8, of a version that requests do not reach.
    UnreachedGreen,
    /// SCENARIOS 8, of a share of the traffic.
    Weighted,
    /// SCENARIOS 8, of a version that fails with a share of the traffic.
    BadShare,
    /// SCENARIOS 28.
    ReApply,
}

impl BlueGreen {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        self.about().0
    }

    /// Its number in SCENARIOS.
    pub const fn number(self) -> u32 {
        self.about().1
    }

    /// What it proves.
    pub const fn claim(self) -> &'static str {
        self.about().2
    }

    /// How its claim is broken on purpose.
    pub const fn sabotage(self) -> &'static str {
        self.about().3
    }

    /// What it needs of an environment.
    pub const fn needs(self) -> &'static [Capability] {
        match self {
            // A kubelet that pulls images; admission.
            BlueGreen::BadImage | BlueGreen::ReApply => {
                &[Capability::BlueGreen, Capability::Cluster]
            }
            // An ingress that counts, and honours canary annotations.
            BlueGreen::UnreachedGreen | BlueGreen::Weighted | BlueGreen::BadShare => {
                &[Capability::BlueGreen, Capability::Cluster]
            }
            _ => &[Capability::BlueGreen],
        }
    }

    const fn about(self) -> (&'static str, u32, &'static str, &'static str) {
        match self {
            BlueGreen::Happy => (
                "blue-green/happy",
                2,
                "a release under load fails no request, and only the new version answers at its end",
                "the deployer empties the old colour before it moves traffic",
            ),
            BlueGreen::Purity => (
                "blue-green/purity",
                3,
                "a version that is up and not switched to answers on the preview only",
                "the active Service selects both colours",
            ),
            BlueGreen::BadImage => (
                "blue-green/bad-image",
                4,
                "an image that is not there is named within 15 s, and nothing is switched",
                "the deployer moves traffic before the new version is up",
            ),
            BlueGreen::NeverReady => (
                "blue-green/never-ready",
                5,
                "a version that never becomes ready is given up at the deadline, and nothing is switched",
                "its pods are probed where they answer well in any case",
            ),
            BlueGreen::BadHealth => (
                "blue-green/bad-health",
                6,
                "one pod of N that fails its health check stops the release",
                "its pods are probed where they answer well in any case",
            ),
            BlueGreen::BadSmoke => (
                "blue-green/bad-smoke",
                7,
                "a version that fails after the switch is taken back in time, and that is verified",
                "the deployer does not look at what users get",
            ),
            BlueGreen::SlowGreen => (
                "blue-green/slow-green",
                8,
                "a version that is 300 ms slower is found by measured traffic, and taken back",
                "the deployer does not look at what users get",
            ),
            BlueGreen::SilentGreen => (
                "blue-green/silent-green",
                8,
                "a version that never answers three of ten requests is found, and taken back",
                "the deployer does not look at what users get",
            ),
            BlueGreen::UnreachedGreen => (
                "blue-green/unreached-green",
                8,
                "a version that the ingress cannot reach is found by the ingress' own errors, and taken back",
                "the deployer does not look at what users get",
            ),
            BlueGreen::Drain => (
                "blue-green/drain",
                9,
                "requests of 20 s across the switch and the scale-down are all answered",
                "the old pods end at once, with requests under way: no preStop, no drain, no grace",
            ),
            BlueGreen::KeepAlive => (
                "blue-green/keep-alive",
                10,
                "pooled connections that stay with the old version are counted, and none is reset",
                "the old pods end at once, with requests under way: no preStop, no drain, no grace",
            ),
            BlueGreen::ScaledSwitch => (
                "blue-green/scaled-switch",
                11,
                "a live colour of 5 pods is followed by one of at least 5 that are ready",
                "the deployer switches with a fixed number of pods",
            ),
            BlueGreen::Race => (
                "blue-green/race",
                12,
                "of two deployers at once the second is refused, and told who holds the lock",
                "the lock is deleted",
            ),
            BlueGreen::Kill => (
                "blue-green/kill",
                13,
                "a deployer that is killed, at any step, is followed by the next run; one colour is live throughout",
                "the cluster forgets the release that was left",
            ),
            BlueGreen::NoData => (
                "blue-green/no-data",
                14,
                "a release without traffic is inconclusive, and does not pass",
                "the deployer does not look at what users get",
            ),
            BlueGreen::Weighted => (
                "blue-green/weighted",
                8,
                "a header and then a share of the ingress' traffic reach the new version before all of it does",
                "somebody deletes the Ingress that routes the share",
            ),
            BlueGreen::BadShare => (
                "blue-green/bad-share",
                8,
                "a version that fails with a share of the traffic gets no more, and is taken back",
                "the deployer does not look at what users get",
            ),
            BlueGreen::ReApply => (
                "blue-green/re-apply",
                28,
                "the manifests of the first install, applied while green is live, are refused",
                "nobody guards the live colour",
            ),
        }
    }
}

/// Runs one of them.
pub async fn run(
    run: &mut Run,
    ground: &Ground<'_>,
    which: BlueGreen,
) -> Result<(), RunFolderError> {
    let mut scenario = Scenario::begin(run, ground.subject, which.name(), which.claim())?;
    if ground.subject.sabotage {
        scenario.note(format!("sabotaged: {}", which.sabotage()))?;
    }
    let on = &mut scenario;
    match which {
        BlueGreen::Happy => happy::run(ground, on).await,
        BlueGreen::Purity => purity::run(ground, on).await,
        BlueGreen::BadImage => bad_releases::bad_image(ground, on).await,
        BlueGreen::NeverReady => bad_releases::never_ready(ground, on).await,
        BlueGreen::BadHealth => bad_releases::bad_health(ground, on).await,
        BlueGreen::BadSmoke => bad_releases::bad_smoke(ground, on).await,
        BlueGreen::SlowGreen => bad_releases::slow_green(ground, on).await,
        BlueGreen::SilentGreen => bad_releases::silent_green(ground, on).await,
        BlueGreen::UnreachedGreen => bad_releases::unreached_green(ground, on).await,
        BlueGreen::Drain => connections::drain(ground, on).await,
        BlueGreen::KeepAlive => connections::keep_alive(ground, on).await,
        BlueGreen::ScaledSwitch => scaled_switch::run(ground, on).await,
        BlueGreen::Race => race::run(ground, on).await,
        BlueGreen::Kill => kill::run(ground, on).await,
        BlueGreen::NoData => bad_releases::no_data(ground, on).await,
        BlueGreen::Weighted => weights::weighted(ground, on).await,
        BlueGreen::BadShare => weights::bad_share(ground, on).await,
        BlueGreen::ReApply => re_apply::run(ground, on).await,
    }?;
    scenario.finish()
}

/// What every scenario begins with, and the version that is not live; none where it is not
/// so, which was recorded.
async fn begin(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
) -> Result<Option<(Status, String)>, RunFolderError> {
    let rest = ground.brought_to_rest().await;
    scenario
        .judge("one colour is live, the other at rest", async {
            let status = rest?;
            let (text, next) = (ground::in_words(&status), ground.next_version(&status));
            Ok(((status, next.to_owned()), text))
        })
        .await
}

/// Traffic that goes on; none where it does not, which was recorded.
async fn loaded(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    lanes: Lanes,
) -> Result<Option<Load>, RunFolderError> {
    match Load::begin(ground, lanes).await {
        Ok(load) => Ok(Some(load)),
        Err(mismatch) => {
            cannot(scenario, "traffic flows", mismatch).await?;
            Ok(None)
        }
    }
}

async fn recorded(
    scenario: &mut Scenario<'_>,
    recordings: Result<Vec<Recording>, Mismatch>,
) -> Result<Option<Vec<Recording>>, RunFolderError> {
    match recordings {
        Ok(recordings) => Ok(Some(recordings)),
        Err(mismatch) => {
            cannot(scenario, "what was asked is known", mismatch).await?;
            Ok(None)
        }
    }
}

/// The version that was released is live.
async fn is_live(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    claim: &str,
    concluded: Result<Conclusion, BlueGreenError>,
) -> Result<Option<String>, RunFolderError> {
    scenario
        .judge(claim, async {
            match concluded {
                Ok(Conclusion::Released { version, colour }) => {
                    let seen = format!("{version} as {colour}");
                    Ok((version, seen))
                }
                Ok(other) => Err(ground.trouble("a release", format!("{other:?}")).into()),
                Err(error) => Err(ground.trouble("a release", error).into()),
            }
        })
        .await
}

/// Records that a step of the scenario's own could not be done.
async fn cannot(
    scenario: &mut Scenario<'_>,
    claim: &str,
    mismatch: Mismatch,
) -> Result<(), RunFolderError> {
    let failed = scenario.judge::<()>(claim, async { Err(mismatch.into()) });
    failed.await.map(|_| ())
}

/// The old version is live as before, and the new one's pods are gone.
async fn taken_back(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    concluded: Result<Conclusion, BlueGreenError>,
    before: &Status,
) -> Result<(), RunFolderError> {
    let rest = ground.at_rest().await;
    let before = &before.colours[0];
    let (colour, version) = (before.colour, before.version.clone());
    scenario
        .judge(
            "the old version is live as before, and the new one at 0",
            async {
                let status = rest?;
                if let Err(error) = concluded {
                    return Err(ground.trouble("a release that is taken back", error).into());
                }
                let live = &status.colours[0];
                let text = ground::in_words(&status);
                match live.colour == colour && live.version == version {
                    true => Ok(((), text)),
                    false => Err(ground
                        .trouble(&format!("{colour} in {version}"), text)
                        .into()),
                }
            },
        )
        .await?;
    Ok(())
}

/// The configured version is live again: what comes after finds the environment as it was.
pub async fn put_back(run: &mut Run, ground: &Ground<'_>) -> Result<(), RunFolderError> {
    let [wanted, _] = ground.versions;
    let live = ground.brought_to_rest().await;
    if live.is_ok_and(|it| it.colours[0].version == *wanted) {
        return Ok(());
    }
    let claim = "the environment is left in the version that it had";
    let mut scenario = Scenario::begin(run, ground.subject, "blue-green/put-back", claim)?;
    if let Some(load) = loaded(ground, &mut scenario, Lanes::quick()).await? {
        let tried = attempt::release(ground, &mut scenario, wanted).await;
        let _ = load.end().await;
        is_live(ground, &mut scenario, claim, tried.concluded).await?;
    }
    scenario.finish()
}
