//! Environments that stay up: several at once, one name for one only, and how each ends.

mod mount;

use std::thread;

use nix::sys::signal::Signal;

use crate::machine::{Process, eventually};
use crate::rig::{E2E, Rig, SECONDS};

#[test]
fn what_is_up_and_well_is_up_already() {
    let rig = Rig::new();
    let first = rig.up();
    let traces = rig.traces();
    let again = rig.run(&["up", "--json"]);
    again
        .expect_code(0)
        .expect_words(&format!("{} is up", rig.name))
        .expect_words("cargo xtask smoke --name");
    let again: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["supervisor"], first["supervisor"]);
    rig.run(&["status"]).expect_code(0).expect_words(": up");
    rig.run(&["smoke"]).expect_code(0);
    rig.run(&["down"]).expect_code(0).expect_words("is down");
    traces.are_gone(&rig);
    rig.run(&["down"])
        .expect_code(0)
        .expect_words("nothing was up");
    rig.run(&["smoke"]).expect_code(3).expect_words("is not up");
}

#[test]
fn scenarios_are_run_by_name_against_what_is_up() {
    let rig = Rig::new();
    let run = ["scenario", "run", "smoke"];
    rig.run(&run).expect_code(3).expect_words("is not up");
    rig.up();
    let traces = rig.traces();
    rig.run(&run)
        .expect_code(0)
        .expect_words("smoke: every route answers")
        .expect_words("checks passed");
    let finished = |event: &serde_json::Value| {
        event["event"] == "scenario-finished" && event["scenario"] == "smoke"
    };
    let events = rig.events("scenario");
    assert_eq!(events.iter().filter(|event| finished(event)).count(), 1);
    assert_eq!(events.last().unwrap()["exit_code"], 0);
    // One that is not known, and none is run.
    let unknown = rig.run(&["scenario", "run", "smoke", "smokey"]);
    unknown
        .expect_code(2)
        .expect_words("did you mean \"smoke\"?");
    rig.find("serve market-data")
        .unwrap()
        .signal(Signal::SIGKILL);
    rig.run(&run).expect_code(1).expect_words("checks failed");
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
}

#[test]
fn a_name_that_is_held_is_refused_naming_the_holder() {
    let rig = Rig::new();
    let mut first = rig.spawn(&E2E);
    first.paused_when_up(|| {
        let holder = format!("process {}", rig.supervisor().pid);
        for verb in ["up", "e2e"] {
            let second = rig.spawn(&[verb]).ends_within(SECONDS);
            second
                .expect_code(3)
                .expect_words("is in use since")
                .expect_words(&holder);
        }
    });
    let traces = rig.traces();
    first.ends_within(SECONDS).expect_code(0);
    traces.are_gone(&rig);
}

#[test]
fn a_name_that_is_coming_up_is_refused_too() {
    let rig = Rig::new();
    let mut first = rig.spawn(&["up"]);
    first.starts("initdb --username").signal(Signal::SIGSTOP);
    first.reaches("provision");
    let holder = format!("process {}", rig.supervisor().pid);
    let second = rig.spawn(&["up"]).ends_within(SECONDS);
    second.expect_code(3).expect_words(&holder);
    rig.run(&["status"])
        .expect_code(0)
        .expect_words("starting or stopping");
    rig.run(&["down"]).expect_code(0).expect_words("is down");
    first
        .ends_within(SECONDS)
        .expect_code(3)
        .expect_words("was taken down from elsewhere");
    rig.traces().are_gone(&rig);
}

#[test]
fn several_are_up_at_once_and_end_each_by_itself() {
    let one = Rig::new();
    let other = Rig::new().at_home(one.home());
    thread::scope(|scope| {
        scope.spawn(|| one.up());
        scope.spawn(|| other.up());
    });
    let (traces_of_one, traces_of_other) = (one.traces(), other.traces());
    one.run(&["down"]).expect_code(0);
    assert!(one.environment().is_none());
    other.run(&["smoke"]).expect_code(0);
    // Two at once, over one home.
    thread::scope(|scope| {
        for rig in [&one, &other] {
            scope.spawn(|| rig.run(&["down", "--all"]).expect_code(0).status);
        }
    });
    traces_of_one.are_gone(&one);
    traces_of_other.are_gone(&other);
}

#[test]
fn down_while_a_run_uses_it_ends_both_with_a_word() {
    let rig = Rig::new();
    let mut course = rig.spawn(&E2E);
    course.paused_when_up(|| {
        let gateway = rig.find("serve api-gateway").unwrap();
        gateway.signal(Signal::SIGSTOP);
    });
    course.reaches("verify");
    let traces = rig.traces();
    rig.run(&["down"]).expect_code(0).expect_words("is down");
    course
        .ends_within(SECONDS)
        .expect_code(3)
        .expect_words("was taken down from elsewhere");
    traces.are_gone(&rig);
}

#[test]
fn a_run_that_keeps_its_environment_and_is_killed_before_keeps_nothing() {
    let rig = Rig::new();
    let mut course = rig.spawn(&[&E2E[..], &["--keep"]].concat());
    let mut traces = None;
    course.paused_when_up(|| traces = Some(rig.traces()));
    course.signal(Signal::SIGKILL);
    assert_eq!(course.ends_within(SECONDS).status.code(), None);
    traces.unwrap().are_gone(&rig);
}

#[test]
fn what_a_killed_supervisor_leaves_is_shown_and_removed() {
    let rig = Rig::new();
    rig.up();
    let traces = rig.traces();
    // Even what cannot hear that its owner has died.
    rig.find("serve frontend-app")
        .unwrap()
        .signal(Signal::SIGSTOP);
    rig.find("postgres -D").unwrap().signal(Signal::SIGSTOP);
    let supervisor = rig.supervisor();
    supervisor.signal(Signal::SIGKILL);
    // Its locks are free then, and not before.
    eventually("the supervisor is gone", SECONDS, || {
        match Process::of(supervisor.pid).filter(Process::runs) {
            Some(still) => Err(still.command),
            None => Ok(()),
        }
    });
    rig.run(&["status"])
        .expect_code(1)
        .expect_words("dead")
        .expect_words("cargo xtask down --all");
    rig.run(&["down", "--all"]).expect_code(0);
    traces.are_gone(&rig);
    rig.run(&["status"])
        .expect_code(0)
        .expect_words("nothing is up");
}

#[test]
fn the_next_start_removes_what_a_killed_one_left() {
    let rig = Rig::new();
    rig.up();
    let traces = rig.traces();
    rig.find("postgres -D").unwrap().signal(Signal::SIGKILL);
    rig.supervisor().signal(Signal::SIGKILL);
    rig.run(&E2E).expect_code(0);
    traces.are_gone(&rig);
}
