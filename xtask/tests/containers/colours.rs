//! A service on two colours without a cluster: released, broken on purpose, and gone with its
//! environment whatever was under way.

use nix::sys::signal::Signal;

use crate::machine::eventually;
use crate::rig::{Rig, SECONDS, UP};

const OF_MARKET_DATA: [&str; 2] = ["--service", "market-data-service"];

/// A release of this version, up to the gate.
fn to_the_gate(rig: &Rig, version: &str) {
    let deploy = ["blue-green", "deploy", "--manual", "--version", version];
    rig.run(&[&deploy[..], &OF_MARKET_DATA].concat())
        .expect_code(0)
        .expect_words("waits at the gate");
}

#[test]
fn scenarios_hold_here_too_and_say_so_when_they_are_broken() {
    let rig = Rig::new();
    rig.up();
    let traces = rig.traces();
    let held = [
        "scenario",
        "run",
        "blue-green/bad-health",
        "blue-green/bad-smoke",
    ];
    rig.run(&held)
        .expect_code(0)
        .expect_words("every pod was asked, and the one that is ill is named")
        .expect_words("users are answered in v2.1.0 again");
    let broken = ["scenario", "run", "blue-green/race", "--sabotage"];
    rig.run(&broken)
        .expect_code(1)
        .expect_words("FAIL the second deployer is refused");
    // What takes a cluster is no pass.
    let skipped = ["scenario", "run", "blue-green/bad-image"];
    rig.run(&skipped)
        .expect_code(5)
        .expect_words("local is no cluster");
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
}

#[test]
fn a_colour_that_dies_before_it_is_live_is_the_releases_affair() {
    let rig = Rig::new();
    rig.up();
    to_the_gate(&rig, "v2.2.0");
    let green = rig.find("versions/v2.2.0 serve market-data").unwrap();
    green.signal(Signal::SIGKILL);
    rig.run(&["status"]).expect_code(0).expect_words(": up");
    let promote = ["blue-green", "promote"];
    rig.run(&[&promote[..], &OF_MARKET_DATA].concat())
        .expect_code(1)
        .expect_words("1 of 1 pods of green fail their health check");
    rig.run(&["smoke"]).expect_code(0);
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn a_proof_that_is_called_off_leaves_anothers_release_at_its_gate() {
    let rig = Rig::new();
    rig.up();
    to_the_gate(&rig, "v2.2.0");
    let status = || {
        let status = ["blue-green", "status", "--json"];
        let told = rig.run(&[&status[..], &OF_MARKET_DATA].concat());
        told.expect_code(0).stdout.clone()
    };
    let before = status();
    // The release would be ended for the second of these, which has not begun.
    let mut proof = rig.spawn(&["scenario", "run", "smoke", "blue-green/race"]);
    proof.reaches("verify");
    proof.signal(Signal::SIGINT);
    proof.ends_within(SECONDS).expect_code(130);
    assert_eq!(status(), before);
    // Nor does one that is let go on end it.
    rig.run(&["scenario", "run", "blue-green/race"])
        .expect_code(1)
        .expect_words("is left alone: it is at the step gate");
    assert_eq!(status(), before);
    let abort = ["blue-green", "abort"];
    rig.run(&[&abort[..], &OF_MARKET_DATA].concat())
        .expect_code(0);
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn both_colours_go_with_a_supervisor_that_is_killed() {
    let rig = Rig::new();
    rig.up();
    to_the_gate(&rig, "v2.2.0");
    let traces = rig.traces();
    let is_there = |version: &str| rig.find(&format!("versions/{version} serve market-data"));
    for version in ["v2.1.0", "v2.2.0"] {
        is_there(version).unwrap();
    }
    rig.supervisor().signal(Signal::SIGKILL);
    eventually("both colours are gone", SECONDS, || {
        match [is_there("v2.1.0"), is_there("v2.2.0")] {
            [Err(_), Err(_)] => Ok(()),
            left => Err(format!("{} are there", left.iter().flatten().count())),
        }
    });
    rig.run(&["down", "--all"]).expect_code(0);
    traces.are_gone(&rig);
}

/// Nobody uses it: the deployer's own requests show that it holds. The next one is taken back by
/// another process, while its deployer is at work.
#[test]
fn without_users_it_is_released_by_a_probe_and_taken_back_from_elsewhere() {
    let rig = Rig::new()
        .change("analysis = \"required\"", "analysis = \"probe\"")
        .change("baseline = 10 ", "baseline = 4 ")
        .change("watch = 20 ", "watch = 6 ")
        .change("drain = 10 ", "drain = 1 ");
    rig.up();
    let deploy = |version| {
        let deploy = ["blue-green", "deploy", "--version", version];
        rig.spawn(&[&deploy[..], &OF_MARKET_DATA].concat())
    };
    deploy("v2.2.0").ends_within(UP).expect_code(0);
    // What is live and well is nothing to do.
    deploy("v2.2.0")
        .ends_within(UP)
        .expect_code(0)
        .expect_words("is live already");
    let mut release = deploy("v2.3.0");
    release.says("analyse ...");
    let abort = ["blue-green", "abort"];
    rig.run(&[&abort[..], &OF_MARKET_DATA].concat())
        .expect_code(0)
        .expect_words("is at work on it, and is asked to abort");
    release
        .ends_within(SECONDS)
        .expect_code(1)
        .expect_words("`abort` was asked for by");
    let status = ["blue-green", "status"];
    let told = rig.run(&[&status[..], &OF_MARKET_DATA].concat());
    assert!(told.stdout.contains("v2.2.0"), "{}", told.stdout);
    rig.run(&["down"]).expect_code(0);
}
