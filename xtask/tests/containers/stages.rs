//! Signals to the command and to the supervisor in every stage.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::machine::MuteEngine;
use crate::rig::{E2E, Rig, RunningCommand, SECONDS};

/// A stage that the test makes last.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The engine does not answer.
    Preflight,
    /// `initdb` is stopped.
    Provision,
    /// The migration is stopped.
    Deploy,
    /// A service is stopped.
    Verify,
    /// A request is in flight.
    Teardown,
}

impl Stage {
    const ALL: [Stage; 5] = [
        Stage::Preflight,
        Stage::Provision,
        Stage::Deploy,
        Stage::Verify,
        Stage::Teardown,
    ];

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// The receiver of a signal.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Command(Signal),
    Supervisor(Signal),
}

/// Sends the signal in the stage, and checks what is left.
fn strike(stage: Stage, blow: Blow, exit_code: Option<i32>) {
    println!("{blow:?} in {stage:?}");
    let engine = MuteEngine::new();
    let rig = match stage {
        Stage::Preflight => Rig::new()
            .backing_services("auto")
            .variable("DOCKER_HOST", &engine.host()),
        _ => Rig::new(),
    };
    let mut running = rig.spawn(&E2E);
    let _in_flight = prolong(stage, &rig, &mut running);
    running.reaches(&stage.name());
    let traces = rig.traces();
    match blow {
        Blow::Command(signal) => running.signal(signal),
        Blow::Supervisor(signal) => rig.supervisor().signal(signal),
    }
    let ended = running.ends_within(SECONDS);
    assert_eq!(ended.status.code(), exit_code, "{}", ended.stderr);
    traces.are_gone(&rig);
    if exit_code.is_some() {
        let events = rig.events("e2e");
        let last = events.last().unwrap();
        assert_eq!(last["event"], "run-finished", "{last}");
        assert_eq!(last["exit_code"].as_i64(), exit_code.map(i64::from));
        assert!(ended.stderr.contains("index.html"), "{}", ended.stderr);
    }
}

/// Makes the stage last, for as long as the returned connection is open.
fn prolong(stage: Stage, rig: &Rig, running: &mut RunningCommand<'_>) -> Option<TcpStream> {
    match stage {
        Stage::Preflight => None,
        Stage::Deploy => {
            running.starts("platform migrate").signal(Signal::SIGSTOP);
            None
        }
        Stage::Provision => {
            running.starts("initdb --username").signal(Signal::SIGSTOP);
            None
        }
        Stage::Verify => {
            running.hangs_in_verify();
            None
        }
        Stage::Teardown => {
            let mut in_flight = None;
            running.paused_when_up(|| in_flight = Some(request_in_flight(rig)));
            in_flight
        }
    }
}

/// Sends the beginning of a request.
fn request_in_flight(rig: &Rig) -> TcpStream {
    let environment = rig.environment().unwrap();
    let mut stream = TcpStream::connect(environment["entry"]["address"].as_str().unwrap()).unwrap();
    let head = "POST /auth/token HTTP/1.1\r\nhost: api.trii.co\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn sigint_of_the_command_tears_everything_down() {
    for stage in Stage::ALL {
        strike(stage, Blow::Command(Signal::SIGINT), Some(130));
    }
}

#[test]
fn sigterm_of_the_command_tears_everything_down() {
    for stage in Stage::ALL {
        strike(stage, Blow::Command(Signal::SIGTERM), Some(143));
    }
}

#[test]
fn sigkill_of_the_command_leaves_the_rest_to_the_supervisor() {
    for stage in Stage::ALL {
        strike(stage, Blow::Command(Signal::SIGKILL), None);
    }
}

#[test]
fn sigkill_of_the_supervisor_leaves_the_rest_to_the_command() {
    for (stage, exit_code) in [
        (Stage::Provision, 3),
        (Stage::Deploy, 3),
        (Stage::Verify, 3),
        // The checks passed, and nothing is left.
        (Stage::Teardown, 0),
    ] {
        strike(stage, Blow::Supervisor(Signal::SIGKILL), Some(exit_code));
    }
}

#[test]
fn sigterm_of_the_supervisor_is_reported_as_such() {
    let rig = Rig::new();
    let mut running = rig.spawn(&E2E);
    running.hangs_in_verify();
    let traces = rig.traces();
    rig.supervisor().signal(Signal::SIGTERM);
    let ended = running.ends_within(SECONDS);
    ended
        .expect(3, "was taken down from elsewhere")
        .expect_stderr("SIGTERM");
    traces.are_gone(&rig);
}

#[test]
fn a_second_signal_exits_immediately_and_reports_how_to_clean_up() {
    let rig = Rig::new();
    let mut running = rig.spawn(&E2E);
    let in_flight = prolong(Stage::Teardown, &rig, &mut running);
    running.reaches("teardown");
    let traces = rig.traces();
    running.signal(Signal::SIGINT);
    running.prints("a second signal exits immediately");
    running.signal(Signal::SIGINT);
    // The teardown waits longer for the request in flight.
    let ended = running.ends_within(Duration::from_secs(2));
    ended
        .expect(6, "cargo xtask down --all")
        .expect_stderr("the supervisor of");
    drop(in_flight);
    traces.are_gone(&rig);
}
