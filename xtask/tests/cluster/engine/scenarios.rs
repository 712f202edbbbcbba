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
const ALL: [&str; 17] = [
    "blue-green/happy",
    "blue-green/purity",
    "blue-green/bad-image",
    "blue-green/never-ready",
    "blue-green/bad-health",
    "blue-green/bad-smoke",
    "blue-green/slow-green",
    "blue-green/silent-green",
    "blue-green/unreached-green",
    "blue-green/weighted",
    "blue-green/bad-share",
    "blue-green/drain",
    "blue-green/keep-alive",
    "blue-green/scaled-switch",
    "blue-green/race",
    "blue-green/no-data",
    "blue-green/re-apply",
];

/// The check that must fail of each when it is sabotaged: one that fails before it comes to its
/// claim has shown nothing.
const SABOTAGED: [(&str, &str); 18] = [
    ("blue-green/happy", "no request failed"),
    ("blue-green/purity", "the active route is answered in"),
    ("blue-green/bad-image", "traffic was never moved"),
    ("blue-green/never-ready", "traffic was never moved"),
    ("blue-green/bad-health", "traffic was never moved"),
    (
        "blue-green/bad-smoke",
        "the cause is named, and traffic is back",
    ),
    (
        "blue-green/slow-green",
        "the cause is named, and traffic is back",
    ),
    (
        "blue-green/silent-green",
        "the cause is named, and traffic is back",
    ),
    (
        "blue-green/unreached-green",
        "the cause is named, and traffic is back",
    ),
    (
        "blue-green/weighted",
        "a share of the ingress' requests is answered",
    ),
    (
        "blue-green/bad-share",
        "the cause is named, and traffic is back",
    ),
    ("blue-green/drain", "requests of 20 s across the switch"),
    ("blue-green/keep-alive", "pinned connections are counted"),
    (
        "blue-green/scaled-switch",
        "the new colour has at least 5 ready pods",
    ),
    ("blue-green/race", "the second deployer is refused"),
    ("blue-green/kill", "killed at bring-up"),
    (
        "blue-green/no-data",
        "without traffic the release is inconclusive",
    ),
    (
        "blue-green/re-apply",
        "the Service of the first install is refused",
    ),
];

/// Each of them reports it, and the environment is left as it was.
#[test]
fn each_reports_its_sabotage() {
    let names = SABOTAGED.map(|(name, _)| name);
    let ended = run(&[&names[..], &["--sabotage", "--json"]].concat());
    ended.expect_code(1);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let scenarios = report["scenarios"].as_array().unwrap();
    for (name, claim) in SABOTAGED {
        let scenario = scenarios.iter().find(|it| it["scenario"] == name).unwrap();
        let mut checks = scenario["checks"].as_array().unwrap().iter();
        let is_told = checks.any(|it| {
            let is_it = it["name"].as_str().unwrap().starts_with(claim);
            is_it && it["outcome"]["result"] == "failed"
        });
        assert!(is_told, "{name} does not notice:\n{}", ended.stderr);
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
