//! Bad input, and a machine that does not do what it should.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::machine::{MuteEngine, eventually};
use crate::rig::{E2E, Rig, SECONDS};

#[test]
fn a_broken_configuration_is_refused_with_its_line() {
    let broken = Rig::new().change("site_host = ", "site_hots = ");
    let ended = broken.run(&E2E);
    ended
        .expect_code(2)
        .expect_words(&format!("{}:", broken.config().display()))
        .expect_words("site_hots");
    let line = fs::read_to_string(broken.config()).unwrap();
    let line = line.lines().position(|line| line.contains("site_hots"));
    ended.expect_words(&format!("harness.toml:{}", line.unwrap() + 1));
    assert!(!broken.home().exists(), "nothing was begun");

    let absent = Rig::new();
    fs::remove_file(absent.config()).unwrap();
    let path = absent.config().display().to_string();
    absent.run(&E2E).expect_code(2).expect_words(&path);
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_is_started() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let rig = Rig::new().change("router_port = 0", &format!("router_port = {port}"));
    let ended = rig.spawn(&E2E).ends_within(SECONDS);
    ended
        .expect_code(3)
        .expect_words(&format!("127.0.0.1:{port}"))
        .expect_words("ss -ltnp");
    let started = |event: &serde_json::Value| event["event"] == "step";
    assert!(!rig.events("e2e").iter().any(started));
    rig.traces().are_gone(&rig);
}

#[test]
fn a_service_that_never_gets_ready_is_given_up_with_what_was_seen() {
    let rig = Rig::new().change("service_ready = 30", "service_ready = 2");
    let mut course = rig.spawn(&E2E);
    // The first of six: the others take their time.
    let service = course.starts("serve market-data-service");
    service.signal(Signal::SIGSTOP);
    let traces = rig.traces();
    let ended = course.ends_within(SECONDS);
    ended
        .expect_code(3)
        .expect_words("market-data-service")
        .expect_words("not within 2s; last seen: ")
        .expect_words("market-data-service-blue-1-1.log");
    traces.are_gone(&rig);
}

#[test]
fn a_service_that_ends_at_once_is_not_waited_for() {
    let rig = Rig::new().change(
        "[services.api-gateway.env]",
        "[services.api-gateway.env]\nWORKER_THREADS = \"none\"",
    );
    rig.run(&E2E)
        .expect_code(3)
        .expect_words("api-gateway listens: it never will be: it ended with exit code")
        .expect_words("WORKER_THREADS is not valid");
    rig.traces().are_gone(&rig);
}

#[test]
fn postgres_killed_while_it_is_used_ends_the_run_and_is_reported() {
    let rig = Rig::new();
    let mut course = rig.spawn(&E2E);
    course.paused_when_up(|| {
        let gateway = rig.find("serve api-gateway").unwrap();
        gateway.signal(Signal::SIGSTOP);
    });
    course.reaches("verify");
    let traces = rig.traces();
    rig.find("postgres -D").unwrap().signal(Signal::SIGKILL);
    let ended = course.ends_within(SECONDS);
    ended
        .expect_code(3)
        .expect_words("postgres ended while the environment was in use")
        .expect_words("signal 9 (SIGKILL)");
    traces.are_gone(&rig);
    let events = rig.events("e2e");
    assert!(
        events
            .iter()
            .any(|event| event["event"] == "part-lost" && event["part"] == "postgres")
    );
    let page = rig.run_folder("e2e").unwrap().join("index.html");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("postgres ended while"), "the report says so");
}

#[test]
fn a_service_that_dies_under_test_is_a_failed_check_not_a_missing_environment() {
    let rig = Rig::new();
    let mut course = rig.spawn(&E2E);
    course.paused_when_up(|| {
        let gateway = rig.find("serve api-gateway").unwrap();
        gateway.signal(Signal::SIGSTOP);
    });
    course.reaches("verify");
    let traces = rig.traces();
    rig.find("serve portfolio-manager")
        .unwrap()
        .signal(Signal::SIGKILL);
    course
        .ends_within(SECONDS)
        .expect_code(1)
        .expect_words("portfolio-manager-service ended while the environment was in use");
    traces.are_gone(&rig);
    let lost = rig
        .events("e2e")
        .into_iter()
        .find(|event| event["event"] == "part-lost");
    // As the page links it.
    assert_eq!(lost.unwrap()["log"], "logs/portfolio-manager-service.log");
}

#[test]
fn postgres_killed_in_an_environment_that_stays_degrades_it() {
    let rig = Rig::new();
    rig.up();
    let traces = rig.traces();
    rig.find("postgres -D").unwrap().signal(Signal::SIGKILL);
    eventually("the loss is written down", SECONDS, || {
        let lost = rig.environment().unwrap()["lost"].clone();
        match lost.as_array().is_some_and(|lost| lost.len() == 1) {
            true => Ok(()),
            false => Err(lost.to_string()),
        }
    });
    rig.run(&["status"])
        .expect_code(1)
        .expect_words("degraded")
        .expect_words("lost: postgres: signal 9 (SIGKILL)");
    rig.run(&["up"])
        .expect_code(1)
        .expect_words("lost: postgres")
        .expect_words("cargo xtask down --name");
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
}

#[test]
fn an_engine_that_does_not_answer_is_done_without_and_named() {
    let engine = MuteEngine::new();
    let rig = Rig::new()
        .change(
            "backing_services = \"binaries\"",
            "backing_services = \"auto\"",
        )
        .variable("DOCKER_HOST", &engine.host());
    rig.run(&E2E)
        .expect_code(0)
        .expect_words("run from binaries, because")
        .expect_words(&engine.host());
    rig.traces().are_gone(&rig);
}

#[test]
fn an_engine_that_does_not_answer_and_is_needed_ends_the_run() {
    let engine = MuteEngine::new();
    let rig = Rig::new()
        .change(
            "backing_services = \"binaries\"",
            "backing_services = \"containers\"",
        )
        .variable("DOCKER_HOST", &engine.host());
    let ended = rig.spawn(&E2E).ends_within(SECONDS);
    ended.expect_code(3).expect_words(&engine.host());
    rig.traces().are_gone(&rig);
}

/// The limit of a process stands in for a disk where none may be mounted.
#[test]
fn a_run_folder_that_takes_no_more_ends_the_run_and_leaves_nothing() {
    let rig = Rig::new();
    let mut traces = None;
    // SIGXFSZ ignored, a write beyond the limit is an error like any other.
    let ignoring = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
    let mut course = rig.spawn_through(&ignoring, &E2E);
    let pid = course.pid().to_string();
    course.paused_when_up(|| {
        // The events of the smoke scenario take more; what is printed takes less.
        let limited = Command::new("prlimit")
            .args(["--pid", &pid, "--fsize=4096"])
            .output();
        assert!(limited.unwrap().status.success());
        traces = Some(rig.traces());
    });
    let ended = course.ends_within(SECONDS);
    ended
        .expect_code(3)
        .expect_words("cannot write the run folder")
        .expect_words("File too large");
    traces.unwrap().are_gone(&rig);
}
