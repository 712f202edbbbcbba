//! Environments seen from another PID namespace. Only root can make one.

use crate::rig::{Rig, SECONDS};

/// Takes 15 s. A dev container and its host with one checkout have the same files and other
/// process ids.
#[cfg(target_os = "linux")]
#[test]
fn an_environment_of_another_pid_namespace_is_named_and_not_changed() {
    let rig = Rig::new();
    let up = rig.up();
    let traces = rig.traces();
    let elsewhere = ["unshare", "--pid", "--fork", "--mount-proc"];
    let from_elsewhere = |arguments: &[&str]| {
        rig.spawn_through(&elsewhere, arguments)
            .ends_within(SECONDS)
    };
    let holder = format!("process {}", up["supervisor"]["pid"]);
    for arguments in [&["down"][..], &["down", "--all"]] {
        from_elsewhere(arguments)
            .expect(6, &holder)
            .expect_stderr("it is in another PID namespace")
            .expect_stderr("end it where it runs");
    }
    // Its lock is invisible, as for two homes that share only an engine.
    let owners = rig.home().join("harness/locks/owners");
    let moved = rig.home().join("moved");
    std::fs::rename(&owners, &moved).unwrap();
    from_elsewhere(&["down", "--all"]).expect(6, "left alone: it is unknown whether");
    let _ = std::fs::remove_dir_all(&owners);
    std::fs::rename(&moved, &owners).unwrap();
    assert_eq!(rig.environment().unwrap()["supervisor"], up["supervisor"]);
    rig.run(&["smoke"]).expect_code(0);
    // The lock shows there, too, that it is dead.
    rig.kill_supervisor();
    from_elsewhere(&["down", "--all"]).expect_code(0);
    traces.are_gone(&rig);
}
