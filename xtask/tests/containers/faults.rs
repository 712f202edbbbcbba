//! Bad input, and faults of the machine.

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
        .expect(2, &format!("{}:", broken.config().display()))
        .expect_stderr("site_hots");
    let line = fs::read_to_string(broken.config()).unwrap();
    let line = line.lines().position(|line| line.contains("site_hots"));
    ended.expect_stderr(&format!("harness.toml:{}", line.unwrap() + 1));
    assert!(!broken.home().exists(), "nothing was started");

    let absent = Rig::new();
    fs::remove_file(absent.config()).unwrap();
    let path = absent.config().display().to_string();
    absent.run(&E2E).expect(2, &path);
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_is_started() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let rig = Rig::new().change("router_port = 0", &format!("router_port = {port}"));
    let ended = rig.spawn(&E2E).ends_within(SECONDS);
    ended
        .expect(3, &format!("127.0.0.1:{port}"))
        .expect_stderr("ss -ltnp");
    let started = |event: &serde_json::Value| event["event"] == "step";
    assert!(!rig.events("e2e").iter().any(started));
    rig.traces().are_gone(&rig);
}

#[test]
fn a_service_that_never_gets_ready_is_given_up_with_its_last_state() {
    let rig = Rig::new().change("service_ready = 30", "service_ready = 2");
    let mut running = rig.spawn(&E2E);
    // The first of six services.
    let service = running.starts("serve market-data-service");
    service.signal(Signal::SIGSTOP);
    let traces = rig.traces();
    let ended = running.ends_within(SECONDS);
    ended
        .expect(3, "market-data-service")
        .expect_stderr("not within 2s; last seen: ")
        .expect_stderr("market-data-service-blue-1-1.log");
    traces.are_gone(&rig);
}

#[test]
fn a_service_that_exits_immediately_is_not_waited_for() {
    let rig = Rig::new().change(
        "[services.api-gateway.env]",
        "[services.api-gateway.env]\nWORKER_THREADS = \"none\"",
    );
    rig.run(&E2E)
        .expect(3, "api-gateway listens: gave up: it ended with exit code")
        .expect_stderr("WORKER_THREADS is not valid");
    rig.traces().are_gone(&rig);
}

#[test]
fn postgres_killed_while_it_is_used_ends_the_run_and_is_reported() {
    let rig = Rig::new();
    let mut running = rig.spawn(&E2E);
    running.hangs_in_verify();
    let traces = rig.traces();
    rig.find("postgres -D").unwrap().signal(Signal::SIGKILL);
    let ended = running.ends_within(SECONDS);
    ended
        .expect(3, "postgres ended while the environment was in use")
        .expect_stderr("signal 9 (SIGKILL)");
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
    let mut running = rig.spawn(&E2E);
    running.hangs_in_verify();
    let traces = rig.traces();
    let portfolio = rig.find("serve portfolio-manager").unwrap();
    portfolio.signal(Signal::SIGKILL);
    running.ends_within(SECONDS).expect(
        1,
        "portfolio-manager-service ended while the environment was in use",
    );
    traces.are_gone(&rig);
    let lost = rig
        .events("e2e")
        .into_iter()
        .find(|event| event["event"] == "part-lost");
    // The page links to this path.
    assert_eq!(lost.unwrap()["log"], "logs/portfolio-manager-service.log");
}

#[test]
fn postgres_killed_in_an_environment_that_stays_degrades_it() {
    let rig = Rig::new();
    rig.up();
    let traces = rig.traces();
    rig.find("postgres -D").unwrap().signal(Signal::SIGKILL);
    eventually("the loss is recorded", SECONDS, || {
        let lost = rig.environment().unwrap()["lost"].clone();
        match lost.as_array().is_some_and(|lost| lost.len() == 1) {
            true => Ok(()),
            false => Err(lost.to_string()),
        }
    });
    rig.run(&["status"])
        .expect(1, "degraded")
        .expect_stderr("lost: postgres: signal 9 (SIGKILL)");
    rig.run(&["up"])
        .expect(1, "lost: postgres")
        .expect_stderr("cargo xtask down --name");
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
}

#[test]
fn an_optional_engine_that_does_not_answer_is_named_and_not_used() {
    let engine = MuteEngine::new();
    let rig = Rig::new()
        .backing_services("auto")
        .variable("DOCKER_HOST", &engine.host());
    rig.run(&E2E)
        .expect(0, "run from binaries, because")
        .expect_stderr(&engine.host());
    rig.traces().are_gone(&rig);
}

#[test]
fn a_required_engine_that_does_not_answer_ends_the_run() {
    let engine = MuteEngine::new();
    let rig = Rig::new()
        .backing_services("containers")
        .variable("DOCKER_HOST", &engine.host());
    let ended = rig.spawn(&E2E).ends_within(SECONDS);
    ended.expect(3, &engine.host());
    rig.traces().are_gone(&rig);
}

/// A limit of the process replaces a full disk, which only root can mount.
#[test]
fn a_run_folder_that_takes_no_more_ends_the_run_and_leaves_nothing() {
    let rig = Rig::new();
    let mut traces = None;
    // Without SIGXFSZ, a write beyond the limit returns an error.
    let ignoring = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
    let mut running = rig.spawn_through(&ignoring, &E2E);
    let pid = running.pid().to_string();
    running.paused_when_up(|| {
        // The events of the smoke scenario take more; what is printed takes less.
        let limited = Command::new("prlimit")
            .args(["--pid", &pid, "--fsize=4096"])
            .output();
        assert!(limited.unwrap().status.success());
        traces = Some(rig.traces());
    });
    let ended = running.ends_within(SECONDS);
    ended
        .expect(3, "cannot write the run folder")
        .expect_stderr("File too large");
    traces.unwrap().are_gone(&rig);
}
