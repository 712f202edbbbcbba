//! A process that stops sending is given up; one that is only slow is reported to run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::rig::{E2E, Rig, SECONDS};

/// Five seconds, and one more on a busy machine.
const LONGEST_SILENCE: Duration = Duration::from_secs(6);

#[test]
fn a_build_without_output_is_reported_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let cargo = folder.path().join("cargo");
    fs::write(&cargo, "#!/bin/sh\nsleep 12\nexit 1\n").unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let rig = Rig::new().variable("CARGO", cargo.to_str().unwrap());
    let mut running = rig.spawn(&E2E);
    let silence = running.longest_silence();
    let ended = running.ends_within(SECONDS);
    ended
        .expect(3, "running (")
        .expect_stderr("cargo build of the platform");
    assert!(silence <= LONGEST_SILENCE, "{silence:?}:\n{}", ended.stderr);
}

#[test]
fn a_supervisor_that_was_stopped_is_given_up() {
    let rig = Rig::new();
    let mut running = rig.spawn(&E2E);
    running.reaches("provision");
    let traces = rig.traces();
    rig.supervisor().signal(Signal::SIGSTOP);
    let ended = running.ends_within(Duration::from_secs(30));
    ended.expect(3, "sent nothing for 10s");
    traces.are_gone(&rig);
}
