//! The blue-green scenarios, on the tier's cluster: each holds, and each says so when its
//! claim is broken on purpose.

use std::path::Path;
use std::time::Duration;

use harness::tiers::ground;
use serde_json::Value;

use crate::rig::{Ended, Rig};

/// For the longest of them, on two cores.
const AT_MOST: Duration = Duration::from_secs(1100);

/// The environment that the tier has up.
pub fn shared() -> Rig {
    let variable = |name| {
        std::env::var(name)
            .unwrap_or_else(|_| panic!("run it by `cargo xtask test --tier cluster`: {name}"))
    };
    // What is on this machine is reached without it.
    let mut rig = Rig::new()
        .at_home(Path::new(&variable(ground::HOME)))
        .variable("HTTPS_PROXY", "http://127.0.0.1:1");
    rig.name = variable(ground::ENVIRONMENT);
    rig
}

fn run(arguments: &[&str]) -> Ended {
    let rig = shared();
    let all = [&["scenario", "run"], arguments].concat();
    rig.spawn(&all).ends_within(AT_MOST)
}

/// Every one of them, but for `kill`.
const ALL: [&str; 15] = [
    "blue-green/happy",
    "blue-green/purity",
    "blue-green/bad-image",
    "blue-green/never-ready",
    "blue-green/bad-health",
    "blue-green/bad-smoke",
    "blue-green/slow-green",
    "blue-green/silent-green",
    "blue-green/unreached-green",
    "blue-green/drain",
    "blue-green/keep-alive",
    "blue-green/scaled-switch",
    "blue-green/race",
    "blue-green/no-data",
    "blue-green/re-apply",
];

/// Those whose sabotage is told within seconds.
const SOON_TOLD: [&str; 6] = [
    "blue-green/purity",
    "blue-green/bad-image",
    "blue-green/bad-health",
    "blue-green/bad-smoke",
    "blue-green/race",
    "blue-green/re-apply",
];

/// Those whose sabotage takes as long as they do.
const TOLD_LATE: [&str; 10] = [
    "blue-green/happy",
    "blue-green/never-ready",
    "blue-green/slow-green",
    "blue-green/silent-green",
    "blue-green/unreached-green",
    "blue-green/drain",
    "blue-green/keep-alive",
    "blue-green/scaled-switch",
    "blue-green/kill",
    "blue-green/no-data",
];

/// Each of them reports a check that failed, and the environment is left as it was.
fn each_reports_its_sabotage(names: &[&str]) {
    let ended = run(&[names, &["--sabotage", "--json"]].concat());
    ended.expect_code(1);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let scenarios = report["scenarios"].as_array().unwrap();
    for name in names {
        let scenario = scenarios.iter().find(|it| it["scenario"] == *name).unwrap();
        let checks = scenario["checks"].as_array().unwrap();
        let failed = checks
            .iter()
            .filter(|it| it["outcome"]["result"] == "failed");
        assert!(
            failed.count() > 0,
            "{name} does not notice:\n{}",
            ended.stderr
        );
    }
    let put_back = scenarios
        .iter()
        .find(|it| it["scenario"] == "blue-green/put-back");
    let checks = put_back.map(|it| it["checks"].as_array().unwrap());
    let mut checks = checks.into_iter().flatten();
    assert!(
        checks.all(|it| it["outcome"]["result"] == "passed"),
        "{}",
        ended.stderr
    );
}

/// The scenarios of a run that ended inconclusive. Whatever else is not proven fails the test.
fn inconclusive(ended: &Ended) -> Vec<String> {
    let code = ended.status.code();
    assert!(matches!(code, Some(0 | 5)), "{code:?}\n{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let scenarios = report["scenarios"].as_array().unwrap().iter();
    let unproven = scenarios.filter(|it| {
        let mut checks = it["checks"].as_array().unwrap().iter();
        checks.any(|it| it["outcome"]["result"] != "passed")
    });
    unproven
        .map(|it| it["scenario"].as_str().unwrap().to_owned())
        .collect()
}

/// A machine that had the prober wait proves nothing: what ended so is run once more, and has
/// to hold then.
#[track_caller]
fn hold(names: &[&str]) {
    let ended = run(&[names, &["--json"]].concat());
    let again = inconclusive(&ended);
    if !again.is_empty() {
        println!("once more: {again:?}\n{}", ended.stderr);
        let names: Vec<&str> = again.iter().map(String::as_str).collect();
        run(&names).expect_code(0);
    }
}

#[test]
fn each_holds() {
    hold(&ALL);
}

#[test]
fn a_killed_deployer_is_followed() {
    hold(&["blue-green/kill"]);
}

#[test]
fn each_reports_its_sabotage_soon() {
    each_reports_its_sabotage(&SOON_TOLD);
}

#[test]
#[ignore = "takes ten minutes"]
fn each_reports_its_sabotage_late() {
    each_reports_its_sabotage(&TOLD_LATE);
}
