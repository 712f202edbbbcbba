//! What falls silent without a word is given up; what is only long is said to go on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::rig::{E2E, Rig, SECONDS};

/// Of five seconds, and one more on a machine that does other things as well.
const LONGEST_SILENCE: Duration = Duration::from_secs(6);

#[test]
fn a_build_that_says_nothing_is_said_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let cargo = folder.path().join("cargo");
    fs::write(&cargo, "#!/bin/sh\nsleep 12\nexit 1\n").unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let rig = Rig::new().variable("CARGO", cargo.to_str().unwrap());
    let mut course = rig.spawn(&E2E);
    let silence = course.longest_silence();
    let ended = course.ends_within(SECONDS);
    ended
        .expect_code(3)
        .expect_words("under way (")
        .expect_words("cargo build of the platform");
    assert!(silence <= LONGEST_SILENCE, "{silence:?}:\n{}", ended.stderr);
}

#[test]
fn a_supervisor_that_was_stopped_is_given_up() {
    let rig = Rig::new();
    let mut course = rig.spawn(&E2E);
    course.reaches("provision");
    let traces = rig.traces();
    rig.supervisor().signal(Signal::SIGSTOP);
    let ended = course.ends_within(Duration::from_secs(30));
    ended.expect_code(3).expect_words("said nothing for 10s");
    traces.are_gone(&rig);
}
