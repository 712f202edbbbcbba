//! The blue-green scenarios on the tier's cluster: each passes, and fails when it is sabotaged.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use environments::environment::{TEST_ENVIRONMENT, TEST_HOME};
use serde_json::Value;

use crate::rig::{Ended, Rig};

/// The timeout of a command, on two cores.
const AT_MOST: Duration = Duration::from_secs(1100);

/// Returns a rig of the tier's environment.
pub fn shared() -> Rig {
    let variable = |name| {
        std::env::var(name)
            .unwrap_or_else(|_| panic!("run it by `cargo xtask test --tier cluster`: {name}"))
    };
    let (home, name) = (variable(TEST_HOME), variable(TEST_ENVIRONMENT));
    Rig::new()
        .in_environment(Path::new(&home), &name)
        // The proxy does not answer: this machine must be reached without it.
        .variable("HTTPS_PROXY", "http://127.0.0.1:1")
}

fn run(arguments: &[&str]) -> Ended {
    let rig = shared();
    let all = [&["scenario", "run"], arguments].concat();
    rig.spawn(&all).ends_within(AT_MOST)
}

/// Every blue-green scenario except `kill`.
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

/// The check of each scenario that must fail when it is sabotaged. An earlier failure proves
/// nothing.
const SABOTAGED: [(&str, &str); 18] = [
    ("blue-green/happy", "no request failed"),
    ("blue-green/purity", "the active route is answered by"),
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
    ("blue-green/kill", "after a kill at bring-up"),
    (
        "blue-green/no-data",
        "without traffic the release is inconclusive",
    ),
    (
        "blue-green/re-apply",
        "the Service of the first install is refused",
    ),
];

/// The same of upgrades of any chart.
const SABOTAGED_UPGRADES: [(&str, &str); 5] = [
    ("rolling/upgrade", "no request fails meanwhile"),
    ("rolling/bad-image", "the upgrade fails, and its cause"),
    ("rolling/never-ready", "the previous release is back"),
    ("rolling/failing-hook", "the upgrade fails, and its cause"),
    ("rolling/kill", "the next deployment makes the release"),
];

/// Runs the scenarios with sabotage. Each must notice, and the environment is left as it was.
fn notice_sabotage(sabotaged: &[(&str, &str)]) {
    let names: Vec<&str> = sabotaged.iter().map(|(name, _)| *name).collect();
    let ended = run(&[&names[..], &["--sabotage", "--json"]].concat());
    ended.expect_code(1);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let scenarios = report["scenarios"].as_array().unwrap();
    for (name, claim) in sabotaged {
        let mut all = scenarios.iter();
        let scenario = all.find(|scenario| scenario["scenario"] == *name);
        let mut checks = scenario.unwrap()["checks"].as_array().unwrap().iter();
        let failed = checks.any(|check| {
            let is_claim = check["name"].as_str().unwrap().starts_with(claim);
            is_claim && check["outcome"]["result"] == "failed"
        });
        assert!(failed, "{name} does not notice:\n{}", ended.stderr);
    }
    let is_put_back = |it: &&Value| it["scenario"].as_str().unwrap().ends_with("/put-back");
    let mut put_back = scenarios.iter().filter(is_put_back);
    assert!(put_back.all(passed), "{}", ended.stderr);
}

#[test]
fn each_fails_when_it_is_sabotaged() {
    notice_sabotage(&SABOTAGED);
}

#[test]
fn upgrades_fail_when_they_are_sabotaged() {
    notice_sabotage(&SABOTAGED_UPGRADES);
}

/// Whether every check of a scenario passed.
fn passed(scenario: &Value) -> bool {
    let mut checks = scenario["checks"].as_array().unwrap().iter();
    checks.all(|check| check["outcome"]["result"] == "passed")
}

/// Returns the inconclusive scenarios of a run, each with the checks that did not pass. Panics if
/// the run failed.
fn inconclusive(ended: &Ended) -> BTreeMap<String, String> {
    let code = ended.status.code();
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
    let mut open = BTreeMap::new();
    for scenario in report["scenarios"].as_array().into_iter().flatten() {
        let checks = scenario["checks"].as_array().unwrap().iter();
        let checks = checks.filter(|check| check["outcome"]["result"] != "passed");
        let checks: Vec<String> = checks.map(Value::to_string).collect();
        if !checks.is_empty() {
            let name = scenario["scenario"].as_str().unwrap();
            open.insert(name.to_owned(), checks.join("\n"));
        }
    }
    let is_over = matches!(code, Some(0 | 5));
    assert!(is_over, "{code:?}: {open:#?}\n{}", ended.stderr);
    open
}

/// The number of runs in which each scenario must have passed once: a busy machine makes a run
/// inconclusive.
const RUNS: usize = 3;

/// Runs the scenarios, and again those that are inconclusive. None may fail.
#[track_caller]
fn pass(names: &[&str]) {
    let names = names.iter().map(|name| (*name).to_owned());
    let mut remaining: BTreeMap<String, String> = names.map(|it| (it, String::new())).collect();
    for _ in 0..RUNS {
        let names: Vec<&str> = remaining.keys().map(String::as_str).collect();
        let ended = run(&[&names[..], &["--json"]].concat());
        remaining = inconclusive(&ended);
        if remaining.is_empty() {
            return;
        }
        println!("inconclusive: {remaining:#?}\n{}", ended.stderr);
    }
    panic!("inconclusive in the last of {RUNS} runs: {remaining:#?}");
}

#[test]
fn each_passes() {
    pass(&ALL);
}

/// The others pass on podinfo's cluster.
#[test]
fn an_upgrade_passes() {
    pass(&["rolling/upgrade"]);
}

#[test]
fn the_release_of_a_killed_deployer_is_resumed() {
    pass(&["blue-green/kill"]);
}
