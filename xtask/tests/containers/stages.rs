//! Every stage, cut short in every way.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::machine::MuteEngine;
use crate::rig::{Course, E2E, Rig, SECONDS};

/// A stage that is made to last, by means from outside.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// An engine is asked for that does not answer.
    Preflight,
    /// `initdb` is stopped.
    Provision,
    /// What writes the schema is stopped.
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

/// What is done to a run.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Command(Signal),
    Supervisor(Signal),
}

/// Brings a run into the stage, deals the blow, and checks what is left.
fn strike(stage: Stage, blow: Blow, exit_code: Option<i32>) {
    println!("{blow:?} in {stage:?}");
    let engine = MuteEngine::new();
    let rig = match stage {
        Stage::Preflight => Rig::new()
            .change(
                "backing_services = \"binaries\"",
                "backing_services = \"auto\"",
            )
            .variable("DOCKER_HOST", &engine.host()),
        _ => Rig::new(),
    };
    let mut course = rig.spawn(&E2E);
    let _in_flight = prolong(stage, &rig, &mut course);
    course.reaches(&stage.name());
    let traces = rig.traces();
    match blow {
        Blow::Command(signal) => course.signal(signal),
        Blow::Supervisor(signal) => rig.supervisor().signal(signal),
    }
    let ended = course.ends_within(SECONDS);
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

/// Makes the stage last. What is returned has to live as long.
fn prolong(stage: Stage, rig: &Rig, course: &mut Course<'_>) -> Option<TcpStream> {
    match stage {
        Stage::Preflight => None,
        Stage::Deploy => {
            course.starts("platform migrate").signal(Signal::SIGSTOP);
            None
        }
        Stage::Provision => {
            course.starts("initdb --username").signal(Signal::SIGSTOP);
            None
        }
        Stage::Verify => {
            course.paused_when_up(|| {
                let gateway = rig.find("serve api-gateway").unwrap();
                gateway.signal(Signal::SIGSTOP);
            });
            None
        }
        Stage::Teardown => {
            let mut in_flight = None;
            course.paused_when_up(|| in_flight = Some(request_in_flight(rig)));
            in_flight
        }
    }
}

/// A request whose body is long in coming.
fn request_in_flight(rig: &Rig) -> TcpStream {
    let environment = rig.environment().unwrap();
    let mut stream = TcpStream::connect(environment["entry"]["address"].as_str().unwrap()).unwrap();
    let head = "POST /auth/token HTTP/1.1\r\nhost: api.trii.co\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn sigint_of_the_command_takes_everything_down_first() {
    for stage in Stage::ALL {
        strike(stage, Blow::Command(Signal::SIGINT), Some(130));
    }
}

#[test]
fn sigterm_of_the_command_takes_everything_down_first() {
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
        // All was proven, and all is gone.
        (Stage::Teardown, 0),
    ] {
        strike(stage, Blow::Supervisor(Signal::SIGKILL), Some(exit_code));
    }
}

#[test]
fn sigterm_of_the_supervisor_is_told_as_what_it_is() {
    let rig = Rig::new();
    let mut course = rig.spawn(&E2E);
    prolong(Stage::Verify, &rig, &mut course);
    course.reaches("verify");
    let traces = rig.traces();
    rig.supervisor().signal(Signal::SIGTERM);
    let ended = course.ends_within(SECONDS);
    ended
        .expect_code(3)
        .expect_words("was taken down from elsewhere")
        .expect_words("SIGTERM");
    traces.are_gone(&rig);
}

#[test]
fn a_second_signal_leaves_at_once_and_says_how_to_clean_up() {
    let rig = Rig::new();
    let mut course = rig.spawn(&E2E);
    let in_flight = prolong(Stage::Teardown, &rig, &mut course);
    course.reaches("teardown");
    let traces = rig.traces();
    course.signal(Signal::SIGINT);
    course.says("once more leaves at once");
    course.signal(Signal::SIGINT);
    // The request in flight holds the teardown up for longer.
    let ended = course.ends_within(Duration::from_secs(2));
    ended
        .expect_code(6)
        .expect_words("cargo xtask down --all")
        .expect_words("the supervisor of");
    drop(in_flight);
    traces.are_gone(&rig);
}
