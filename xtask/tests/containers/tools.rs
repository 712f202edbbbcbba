//! What the platform file's commands and services need of this machine: tools, and an engine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::rig::Rig;

/// A platform that `go` builds: it writes the page that is served.
const BUILT_BY_GO: &str = r#"
schema = 1

[targets.local]
kind = "local"

[platform]
name = "pages"
version = "1.0.0"
site_host = "pages.example"

[platform.local]
tools = ["go"]
build = ["go", "build"]

[services.pages.local]
run = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "{port}"]

[[routes]]
host = "pages.example"
path = "/"
path_type = "Prefix"
service = "pages"
"#;

/// Makes a `go` of this version. Its other commands write the file `built`.
fn go(path: &Path, version: &str, built: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = version ] && echo go version go{version} || : >{}\n",
        built.display()
    );
    fs::write(path, script).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_tool_of_the_platform_file_is_checked_before_anything_starts_and_is_on_its_path() {
    let room = tempfile::tempdir().unwrap();
    let built = room.path().join("built");
    go(&room.path().join("bin/go"), "1.2", &built);
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", room.path().join("bin").display());
    let rig = Rig::of(BUILT_BY_GO).variable("PATH", &path);
    rig.run(&["up"])
        .expect(3, "Go not installed, which platform.local.tools names")
        .expect_stderr("--provision");
    assert!(rig.environment().is_none() && !built.exists());
    let events = rig.events("up");
    let started = |stage: &str| {
        let mut events = events.iter();
        events.any(|it| it["event"] == "stage-started" && it["stage"] == stage)
    };
    assert!(started("preflight") && !started("provision"));
    // The place where `--provision` installs it.
    go(
        &rig.home().join("harness/tools/go/go/bin/go"),
        "1.99.0",
        &built,
    );
    rig.up();
    assert!(built.exists());
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn doctor_tells_what_the_platform_file_lacks() {
    let room = tempfile::tempdir().unwrap();
    go(&room.path().join("go"), "1.2", Path::new("/dev/null"));
    let path = std::env::var("PATH").unwrap();
    let rig = Rig::of(BUILT_BY_GO);
    let doctor = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["doctor", "--target", "local", "--config"])
        .arg(rig.config())
        .env("TRII_HARNESS_HOME", rig.home())
        .env("PATH", format!("{}:{path}", room.path().display()))
        .output()
        .unwrap();
    let (answer, errors) = (
        String::from_utf8_lossy(&doctor.stdout),
        String::from_utf8_lossy(&doctor.stderr),
    );
    assert_eq!(doctor.status.code(), Some(3), "{answer}{errors}");
    let consequence = "the platform cannot be built or run here (platform.local.tools)";
    assert!(answer.contains(consequence), "{answer}");
    assert!(errors.contains("Go not installed"), "{errors}");
}

#[test]
fn without_an_engine_a_service_that_is_a_container_is_refused_by_name() {
    let own = "[services.frontend-app.local]\nimage = \"example/page:{version}\"\n\
               args = [\"{port}\"]\n\n[services.frontend-app]";
    let rig = Rig::new()
        .change("[services.frontend-app]", own)
        .variable("DOCKER_HOST", "unix:///nowhere/docker.sock");
    rig.run(&["up"])
        .expect(3, "frontend-app needs a container engine")
        .expect_stderr("/nowhere/docker.sock");
    rig.traces().are_gone(&rig);
    let events = rig.events("up");
    let started = events.iter().any(|it| it["stage"] == "provision");
    assert!(!started, "{events:?}");
}
