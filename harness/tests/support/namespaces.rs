//! A test that runs itself once more in namespaces of its own: what it mounts there is seen by
//! nobody else, its network is the loopback alone, and what it starts ends with it. It takes root
//! on Linux.
//!
//! A second dockerd in the machine's own network would take the bridge of the first.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the folder that is the test's own.
const ROOM: &str = "TRII_TEST_ROOM";

/// With a copy of `/etc` and an empty `/run`: no service manager is seen, and no engine. The
/// loopback is brought up by its flag IFF_UP, without a program that may not be here.
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

/// Runs the test `name` of this binary in namespaces of its own, through a program that becomes
/// it: there, [`room`] is some. `room` holds its `etc` then.
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
        // There is no network, and nothing to be had from it.
        .env("CARGO_NET_OFFLINE", "true")
        // Nor is the engine there that it may name.
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .env(ROOM, room)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    println!("{said}{errors}");
    assert!(ran.status.success(), "{}", ran.status);
    assert!(said.contains("1 passed"), "{name} is no test");
}

/// In the namespaces, the folder that is the test's own.
pub fn room() -> Option<PathBuf> {
    std::env::var_os(ROOM).map(PathBuf::from)
}
