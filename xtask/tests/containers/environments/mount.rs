//! Environments as they are seen from another PID namespace, which it takes root to make.

use nix::sys::signal::Signal;

use crate::machine::eventually;
use crate::rig::{Rig, SECONDS};

/// 15 s. As a dev container and its host with one checkout: the same files, other process ids.
#[cfg(target_os = "linux")]
#[test]
fn what_lives_in_another_pid_namespace_is_left_alone_and_named() {
    let rig = Rig::new();
    let up = rig.up();
    let traces = rig.traces();
    let elsewhere = ["unshare", "--pid", "--fork", "--mount-proc"];
    let from_elsewhere = |arguments: &[&str]| {
        let course = rig.spawn_through(&elsewhere, arguments);
        course.ends_within(SECONDS)
    };
    let holder = format!("process {}", up["supervisor"]["pid"]);
    for arguments in [&["down"][..], &["down", "--all"]] {
        let down = from_elsewhere(arguments);
        down.expect_code(6)
            .expect_words(&holder)
            .expect_words("it is in another PID namespace")
            .expect_words("end it where it runs");
    }
    // Its lock is not to be seen, as where two share an engine alone.
    let owners = rig.home().join("harness/locks/owners");
    let kept = rig.home().join("kept");
    std::fs::rename(&owners, &kept).unwrap();
    from_elsewhere(&["down", "--all"])
        .expect_code(6)
        .expect_words("left alone: it cannot be told whether");
    let _ = std::fs::remove_dir_all(&owners);
    std::fs::rename(&kept, &owners).unwrap();
    assert_eq!(rig.environment().unwrap()["supervisor"], up["supervisor"]);
    rig.run(&["smoke"]).expect_code(0);
    // Once it is dead, its lock tells so there, too.
    rig.supervisor().signal(Signal::SIGKILL);
    eventually("the supervisor is gone", SECONDS, || {
        match rig.find(" supervise") {
            Ok(still) => Err(still.command),
            Err(_) => Ok(()),
        }
    });
    from_elsewhere(&["down", "--all"]).expect_code(0);
    traces.are_gone(&rig);
}
