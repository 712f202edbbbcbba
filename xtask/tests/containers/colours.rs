//! Blue-green releases without a cluster: with faults, and with an environment that ends meanwhile.

use nix::sys::signal::Signal;

use crate::machine::eventually;
use crate::rig::{Ended, Rig, RunningCommand, SECONDS, UP};

/// Starts a command for the service `market-data-service`.
fn spawn<'a>(rig: &'a Rig, arguments: &[&str]) -> RunningCommand<'a> {
    let service = ["--service", "market-data-service"];
    rig.spawn(&[&["blue-green"][..], arguments, &service].concat())
}

fn run(rig: &Rig, arguments: &[&str]) -> Ended {
    spawn(rig, arguments).ends_within(UP)
}

/// Releases this version up to the gate.
fn to_the_gate(rig: &Rig, version: &str) {
    run(rig, &["deploy", "--manual", "--version", version]).expect(0, "waits at the gate");
}

#[test]
fn scenarios_pass_here_too_and_fail_when_they_are_sabotaged() {
    let rig = Rig::new();
    rig.up();
    let traces = rig.traces();
    let scenarios = ["blue-green/bad-health", "blue-green/bad-smoke"];
    rig.run(&[&["scenario", "run"][..], &scenarios].concat())
        .expect(0, "every pod was checked, and the unhealthy one is named")
        .expect_stderr("users are answered by v2.1.0 again");
    rig.run(&["scenario", "run", "blue-green/race", "--sabotage"])
        .expect(1, "FAIL the second deployer is refused");
    // A scenario that needs a cluster does not pass.
    rig.run(&["scenario", "run", "blue-green/bad-image"])
        .expect(5, "local is no cluster");
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
}

/// What a file lacks is neither a failure nor a success. The environment stays up.
#[test]
fn without_their_data_scenarios_are_skipped() {
    let shipped = include_str!("../../../harness.toml");
    let begin = shipped.find("[blue_green.scenarios.faults]").unwrap();
    let end = begin + shipped[begin..].find("\n\n").unwrap();
    let rig = Rig::new().change(&shipped[begin..end], "");
    rig.up();
    let skipped = |rig: &Rig, scenario: &str, because: &str| {
        rig.run(&["scenario", "run", scenario]).expect(5, because);
    };
    let because = "harness.toml has no blue_green.scenarios.faults";
    skipped(&rig, "blue-green/bad-smoke", because);
    let rig = rig
        .change(
            "service = \"market-data-service\"\nurl",
            "service = \"frontend-app\"\nurl",
        )
        .change(
            "url = \"https://api.trii.co/market-data/quotes\"",
            "url = \"https://trii.co/\"",
        )
        .change("slow_url = ", "# slow_url = ")
        .change("slow_path = ", "# slow_path = ");
    skipped(
        &rig,
        "blue-green/race",
        "there is no service \"frontend-app\"",
    );
    let rig = rig.change(
        "url = \"https://trii.co/\"",
        "url = \"https://trii.co/api\"",
    );
    rig.run(&["scenario", "run", "blue-green/race"])
        .expect(2, "a route leads trii.co/api to api-gateway");
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn a_colour_that_dies_before_it_is_live_fails_only_the_release() {
    let rig = Rig::new();
    rig.up();
    to_the_gate(&rig, "v2.2.0");
    let green = rig.find("versions/v2.2.0 serve market-data").unwrap();
    green.signal(Signal::SIGKILL);
    rig.run(&["status"]).expect(0, ": up");
    run(&rig, &["promote"]).expect(1, "1 of 1 pods of green fail their health check");
    rig.run(&["smoke"]).expect_code(0);
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn a_cancelled_run_leaves_another_release_at_its_gate() {
    let rig = Rig::new();
    rig.up();
    to_the_gate(&rig, "v2.2.0");
    let status = || {
        run(&rig, &["status", "--json"])
            .expect_code(0)
            .stdout
            .clone()
    };
    let before = status();
    // Only the second scenario, which has not started, would abort the release.
    let mut running = rig.spawn(&["scenario", "run", "smoke", "blue-green/race"]);
    running.reaches("verify");
    running.signal(Signal::SIGINT);
    running.ends_within(SECONDS).expect_code(130);
    assert_eq!(status(), before);
    // A scenario that is not cancelled does not abort it, either.
    rig.run(&["scenario", "run", "blue-green/race"])
        .expect(1, "is not changed: it is at the step gate");
    assert_eq!(status(), before);
    run(&rig, &["abort"]).expect_code(0);
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn both_colours_stop_when_the_supervisor_is_killed() {
    let rig = Rig::new();
    rig.up();
    to_the_gate(&rig, "v2.2.0");
    let traces = rig.traces();
    let find = |version: &str| rig.find(&format!("versions/{version} serve market-data"));
    let versions = ["v2.1.0", "v2.2.0"];
    for version in versions {
        find(version).unwrap();
    }
    rig.supervisor().signal(Signal::SIGKILL);
    eventually("both colours exit", SECONDS, || {
        match versions.into_iter().find(|version| find(version).is_ok()) {
            Some(version) => Err(format!("{version} still runs")),
            None => Ok(()),
        }
    });
    rig.run(&["down", "--all"]).expect_code(0);
    traces.are_gone(&rig);
}

/// Without users, the deployer's own requests are the evidence. Another process aborts the next
/// release while its deployer runs.
#[test]
fn without_users_it_is_released_by_a_probe_and_rolled_back_from_elsewhere() {
    let rig = Rig::new()
        .change("analysis = \"required\"", "analysis = \"probe\"")
        .change("baseline = 10 ", "baseline = 4 ")
        .change("watch = 20 ", "watch = 6 ")
        .change("drain = 10 ", "drain = 1 ");
    rig.up();
    run(&rig, &["deploy", "--version", "v2.2.0"]).expect_code(0);
    // A version that is live and healthy is not released again.
    run(&rig, &["deploy", "--version", "v2.2.0"]).expect(0, "is live already");
    let mut release = spawn(&rig, &["deploy", "--version", "v2.3.0"]);
    release.prints("analyse ...");
    run(&rig, &["abort"]).expect(0, "is running it, and gets the request to abort");
    release
        .ends_within(SECONDS)
        .expect(1, "`abort` was requested by");
    let status = run(&rig, &["status"]);
    assert!(status.stdout.contains("v2.2.0"), "{}", status.stdout);
    rig.run(&["down"]).expect_code(0);
}
