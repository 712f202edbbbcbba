//! What falls silent without a word is given up.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::rig::{E2E, Rig};

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
