//! A test that runs itself again in its own namespaces: its mounts are private, its network is only
//! the loopback, and its processes end with it. This needs root on Linux.
//!
//! In the machine's network a second dockerd would take the bridge of the first.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable with the test's folder.
const ROOM: &str = "TRII_TEST_ROOM";

/// Mounts a copy of `/etc` and an empty `/run`, which hides the service manager and the engine. The
/// flag IFF_UP brings the loopback up without a program.
const IN_NAMESPACES: &str = r#"
set -eu
cp --archive /etc "$1/etc"
mount --bind "$1/etc" /etc
mount -t tmpfs tmpfs /run
mkdir "$1/sys"
mount -t sysfs sysfs "$1/sys"
echo 1 >"$1/sys/class/net/lo/flags"
umount "$1/sys"
shift
exec timeout --verbose 120 "$@"
"#;

/// Runs the test `name` of this binary in its own namespaces, through a program that executes it.
/// There, [`room`] returns the folder. `room` then contains its `etc`.
#[track_caller]
pub fn run_alone(name: &str, room: &Path, through: &[&str]) {
    let ran = Command::new("unshare")
        .args(["--net", "--mount"])
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["sh", "-c", IN_NAMESPACES, "in-namespaces"])
        .arg(room)
        .args(through)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        // There is no network.
        .env("CARGO_NET_OFFLINE", "true")
        // There is no engine, either.
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .env(ROOM, room)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&ran.stdout);
    let stderr = String::from_utf8_lossy(&ran.stderr);
    println!("{stdout}{stderr}");
    assert!(ran.status.success(), "{}", ran.status);
    assert!(stdout.contains("1 passed"), "{name} is not a test");
}

/// Returns the test's folder inside the namespaces; none outside.
pub fn room() -> Option<PathBuf> {
    std::env::var_os(ROOM).map(PathBuf::from)
}
