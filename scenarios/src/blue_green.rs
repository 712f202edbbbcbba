//! SCENARIOS 2 to 14 and 28: one service is released from one colour to the other.
//!
//! Each starts and ends with one live colour and the other at 0. With `--sabotage` each must fail.

mod attempt;
mod bad_releases;
mod connections;
mod happy;
mod kill;
mod purity;
mod race;
mod re_apply;
mod release_traffic;
mod replica_watch;
mod scaled_switch;
mod service_watch;
pub mod setup;
mod traffic;
mod traffic_checks;
mod weights;

use base::run::Run;
use blue_green::{BlueGreenError, Conclusion, ServiceStatus};
use environments::capability::Capability;
use environments::config::{BlueGreenScenarios, PodFault};
use kubernetes::prober::Recording;

pub use setup::{Setup, XtaskProgram, release_of};

use crate::{Mismatch, RunResult, Scenario};
use traffic::{Lanes, Traffic};

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
    /// SCENARIOS 8, with requests that are never answered.
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
    /// SCENARIOS 8, with a version that requests do not reach.
    UnreachedGreen,
    /// SCENARIOS 8, starting with a share of the traffic.
    Weighted,
    /// SCENARIOS 8, with a version that fails with a share of the traffic.
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

    /// The fault that breaks its claim on purpose.
    pub const fn sabotage(self) -> &'static str {
        self.about().3
    }

    /// The capabilities that it needs.
    pub const fn needs(self) -> &'static [Capability] {
        match self {
            // The first two need a kubelet that pulls images, and admission. The others need an
            // ingress that counts requests and supports canary annotations.
            BlueGreen::BadImage
            | BlueGreen::ReApply
            | BlueGreen::UnreachedGreen
            | BlueGreen::Weighted
            | BlueGreen::BadShare => &[Capability::BlueGreen, Capability::Cluster],
            _ => &[Capability::BlueGreen],
        }
    }

    /// Returns the key of `[blue_green.scenarios]` that it needs and that is missing.
    fn missing_key(self, config: &BlueGreenScenarios, sabotage: bool) -> Option<&'static str> {
        let (key, is_there) = match self {
            BlueGreen::NeverReady
            | BlueGreen::BadHealth
            | BlueGreen::BadSmoke
            | BlueGreen::SlowGreen
            | BlueGreen::SilentGreen
            | BlueGreen::BadShare => ("faults", config.faults.is_some()),
            // Only slow pods have requests in flight when they end.
            BlueGreen::KeepAlive if sabotage => ("faults", config.faults.is_some()),
            BlueGreen::Drain => ("slow_url", config.slow_request.is_some()),
            BlueGreen::ReApply => ("policy_bindings", !config.policy_bindings.is_empty()),
            _ => return None,
        };
        (!is_there).then_some(key)
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
                "before the switch the new version answers on the preview only",
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
                "a version that never becomes ready fails at the deadline, and nothing is switched",
                "its pods are probed on a path that always answers well",
            ),
            BlueGreen::BadHealth => (
                "blue-green/bad-health",
                6,
                "one pod of N that fails its health check stops the release",
                "its pods are probed on a path that always answers well",
            ),
            BlueGreen::BadSmoke => (
                "blue-green/bad-smoke",
                7,
                "a version that fails after the switch is rolled back in time, and that is verified",
                "the deployer does not check the traffic of users",
            ),
            BlueGreen::SlowGreen => (
                "blue-green/slow-green",
                8,
                "a version that answers later is found by measured traffic, and rolled back",
                "the deployer does not check the traffic of users",
            ),
            BlueGreen::SilentGreen => (
                "blue-green/silent-green",
                8,
                "a version that never answers some requests is found, and rolled back",
                "the deployer does not check the traffic of users",
            ),
            BlueGreen::UnreachedGreen => (
                "blue-green/unreached-green",
                8,
                "a version that the ingress cannot reach is found by the ingress' own errors, and rolled back",
                "the deployer does not check the traffic of users",
            ),
            BlueGreen::Drain => (
                "blue-green/drain",
                9,
                "requests of 20 s across the switch and the scale-down are all answered",
                "the old pods end at once, with requests in flight: no preStop, no drain, no grace period",
            ),
            BlueGreen::KeepAlive => (
                "blue-green/keep-alive",
                10,
                "pooled connections to the old version are counted, and none is reset",
                "the old pods end at once, with requests in flight: no preStop, no drain, no grace period",
            ),
            BlueGreen::ScaledSwitch => (
                "blue-green/scaled-switch",
                11,
                "if the live colour has 5 pods, the new one has at least 5 ready pods before the switch",
                "the deployer switches with a fixed number of pods",
            ),
            BlueGreen::Race => (
                "blue-green/race",
                12,
                "of two deployers at once the second is refused, and its error names the lock's holder",
                "the lock is deleted",
            ),
            BlueGreen::Kill => (
                "blue-green/kill",
                13,
                "the next run continues after a deployer that was killed, at any step; one colour is live throughout",
                "the record of the interrupted release is deleted",
            ),
            BlueGreen::NoData => (
                "blue-green/no-data",
                14,
                "a release without traffic is inconclusive, and does not pass",
                "the deployer does not check the traffic of users",
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
                "a version that fails with a share of the traffic gets no more, and is rolled back",
                "the deployer does not check the traffic of users",
            ),
            BlueGreen::ReApply => (
                "blue-green/re-apply",
                28,
                "the manifests of the first install, applied while green is live, are refused",
                "the policies that guard the live colour are removed",
            ),
        }
    }
}

/// Runs a scenario.
pub async fn run(run: &mut Run, setup: &Setup<'_>, which: BlueGreen) -> RunResult {
    let mut scenario = Scenario::start(run, setup.subject, which.name(), which.claim())?;
    if setup.subject.sabotage {
        scenario.note(format!("sabotaged: {}", which.sabotage()))?;
    }
    let on = &mut scenario;
    if let Some(key) = which.missing_key(setup.config, setup.subject.sabotage) {
        on.skip(which.claim(), &setup::lacks_key(key)).await?;
        return scenario.finish().await;
    }
    match which {
        BlueGreen::Happy => happy::run(setup, on).await,
        BlueGreen::Purity => purity::run(setup, on).await,
        BlueGreen::BadImage => bad_releases::bad_image(setup, on).await,
        BlueGreen::NeverReady => bad_releases::never_ready(setup, on).await,
        BlueGreen::BadHealth => bad_releases::bad_health(setup, on).await,
        BlueGreen::BadSmoke => {
            let cause = "after the switch";
            bad_releases::faulty_green(setup, on, cause, PodFault::Errors).await
        }
        BlueGreen::SlowGreen => {
            bad_releases::faulty_green(setup, on, "latency", PodFault::Slow).await
        }
        BlueGreen::SilentGreen => {
            let cause = "without an answer";
            bad_releases::faulty_green(setup, on, cause, PodFault::Silent).await
        }
        BlueGreen::UnreachedGreen => bad_releases::unreached_green(setup, on).await,
        BlueGreen::Drain => connections::drain(setup, on).await,
        BlueGreen::KeepAlive => connections::keep_alive(setup, on).await,
        BlueGreen::ScaledSwitch => scaled_switch::run(setup, on).await,
        BlueGreen::Race => race::run(setup, on).await,
        BlueGreen::Kill => kill::run(setup, on).await,
        BlueGreen::NoData => bad_releases::no_data(setup, on).await,
        BlueGreen::Weighted => weights::weighted(setup, on).await,
        BlueGreen::BadShare => weights::bad_share(setup, on).await,
        BlueGreen::ReApply => Box::pin(re_apply::run(setup, on)).await,
    }?;
    scenario.finish().await
}

/// Waits for the state from which every scenario starts. Returns it with the version that is not
/// live. If the state is not reached, records that and returns none.
async fn start(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
) -> RunResult<Option<(ServiceStatus, String)>> {
    let steady = setup.end_leftover_release().await;
    scenario
        .evaluate("one colour is live, the other at rest", async {
            let status = steady?;
            let (text, next) = (setup::summary(&status), setup.next_version(&status));
            Ok(((status, next.to_owned()), text))
        })
        .await
}

/// Starts traffic. If it does not start, records that and returns none.
async fn start_traffic(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    lanes: Lanes,
) -> RunResult<Option<Traffic>> {
    match Traffic::start(setup, lanes).await {
        Ok(traffic) => Ok(Some(traffic)),
        Err(mismatch) => {
            scenario.record_failure("traffic flows", mismatch).await?;
            Ok(None)
        }
    }
}

/// Returns the probers' recordings. If they cannot be read, records that and returns none.
async fn recordings_or_fail(
    scenario: &mut Scenario<'_>,
    recordings: Result<Vec<Recording>, Mismatch>,
) -> RunResult<Option<Vec<Recording>>> {
    match recordings {
        Ok(recordings) => Ok(Some(recordings)),
        Err(mismatch) => {
            let claim = "the probers' recordings can be read";
            scenario.record_failure(claim, mismatch).await?;
            Ok(None)
        }
    }
}

/// Checks that the release succeeded, and returns its version.
async fn check_live(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    claim: &str,
    conclusion: Result<Conclusion, BlueGreenError>,
) -> RunResult<Option<String>> {
    scenario
        .evaluate(claim, async {
            match conclusion {
                Ok(Conclusion::Released { version, colour }) => {
                    let seen = format!("{version} as {colour}");
                    Ok((version, seen))
                }
                Ok(other) => setup.fail("a release", format!("{other:?}")),
                Err(error) => setup.fail("a release", error),
            }
        })
        .await
}

/// Checks that the old version is live as before, and that the new one has no pods.
async fn rolled_back(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    conclusion: Result<Conclusion, BlueGreenError>,
    before: &ServiceStatus,
) -> RunResult {
    let steady = setup.steady().await;
    let before = &before.colours[0];
    let claim = "the old version is live as before, and the new one at 0";
    scenario
        .evaluate(claim, async {
            let status = steady?;
            if let Err(error) = conclusion {
                return setup.fail("a release that is rolled back", error);
            }
            let live = &status.colours[0];
            let text = setup::summary(&status);
            match live.colour == before.colour && live.version == before.version {
                true => Ok(((), text)),
                false => setup.fail(&format!("{} in {}", before.colour, before.version), text),
            }
        })
        .await?;
    Ok(())
}

/// Releases the configured version, so that the environment is as before.
pub async fn put_back(run: &mut Run, setup: &Setup<'_>) -> RunResult {
    let [wanted, _] = setup.versions;
    let live = setup.end_leftover_release().await;
    if live.is_ok_and(|it| it.colours[0].version == *wanted) {
        return Ok(());
    }
    let claim = "the environment has its configured version again";
    let mut scenario = Scenario::start(run, setup.subject, "blue-green/put-back", claim)?;
    if let Some(traffic) = start_traffic(setup, &mut scenario, Lanes::quick()).await? {
        let attempt = attempt::release(setup, &mut scenario, wanted).await;
        let _ = traffic.end().await;
        check_live(setup, &mut scenario, claim, attempt.conclusion).await?;
    }
    scenario.finish().await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use environments::config::Config;

    use crate::catalogue::{self, Family};

    /// The scenarios that lack a key of this configuration, each with the key.
    fn skipped(scenarios: &str, sabotage: bool) -> Vec<String> {
        let text = format!(
            "schema = 1\n[targets.local]\nkind = \"local\"\n[platform]\nname = \"shop\"\n\
             version = \"1\"\nsite_host = \"shop.example\"\n[platform.local]\nrun = [\"serve\", \"{{port}}\"]\n\
             [services.cart]\n[blue_green.scenarios]\nservice = \"cart\"\n\
             url = \"https://shop.example/\"\npath = \"/\"\n{scenarios}"
        );
        let config = Config::parse(Path::new("shop.toml"), &text).unwrap();
        let config = config.blue_green_scenarios.unwrap();
        let all = catalogue::ALL.iter().filter_map(|it| match it.family {
            Family::BlueGreen(which) => Some(which),
            _ => None,
        });
        let lacking = all.filter_map(|it| Some((it.name(), it.missing_key(&config, sabotage)?)));
        let lacking = lacking.map(|(name, key)| format!("{name}: {key}"));
        lacking.collect()
    }

    #[test]
    fn a_scenario_is_skipped_without_what_it_needs() {
        let least = skipped("", false).join("\n");
        insta::assert_snapshot!(least, @r"
        blue-green/never-ready: faults
        blue-green/bad-health: faults
        blue-green/bad-smoke: faults
        blue-green/slow-green: faults
        blue-green/silent-green: faults
        blue-green/bad-share: faults
        blue-green/drain: slow_url
        blue-green/re-apply: policy_bindings
        ");
        let sabotaged = skipped("", true);
        assert!(sabotaged.contains(&"blue-green/keep-alive: faults".to_owned()));
        let all = "slow_url = \"https://shop.example/slow\"\nslow_path = \"/slow\"\n\
            policy_bindings = [\"guard\"]\n[blue_green.scenarios.faults]\nvariable = \"F\"\n\
            port = 1\npath = \"/\"\nnone = \"\"\nunready = \"\"\nerrors = \"\"\n\
            some_errors = \"\"\nslow = \"\"\nsilent = \"\"\n";
        assert_eq!(skipped(all, true), [""; 0]);
    }
}
