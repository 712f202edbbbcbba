//! What a user's own environment holds that an environment has to come up under.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::{Rig, UP};

/// A program as asdf or mise has it on PATH: it looks for the real one in its user's files.
fn shim(folder: &Path, home: &Path, name: &str) {
    let real = std::env::var_os("PATH").and_then(|path| {
        let all: Vec<_> = std::env::split_paths(&path).collect();
        all.into_iter()
            .map(|it| it.join(name))
            .find(|it| it.is_file())
    });
    let real = real.unwrap_or_else(|| panic!("no {name} on PATH"));
    fs::write(home.join(name), format!("{}\n", real.display())).unwrap();
    let script = format!("#!/bin/sh\nread -r real <\"$HOME/{name}\" && exec \"$real\" \"$@\"\n");
    fs::write(folder.join(name), script).unwrap();
    fs::set_permissions(folder.join(name), Permissions::from_mode(0o755)).unwrap();
}

/// All at once: a variable that is not UTF-8, a dead proxy, no entry in NO_PROXY that is one,
/// a folder for temporary files that only its owner enters, with a space in its name, a shim,
/// an empty entry in PATH, and a locale that is not there.
#[test]
fn an_environment_comes_up_whatever_its_users_variables_are() {
    let room = tempfile::tempdir().unwrap();
    let [temporary, home, bin] = ["my files", "home", "bin"].map(|name| room.path().join(name));
    for folder in [&temporary, &home, &bin] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
    }
    shim(&bin, &home, "redis-server");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}::{path}", bin.display());
    // cargo, which builds the platform, has its own there.
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let rustup_home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let rustup_home = rustup_home.or_else(|| Some(std::env::home_dir()?.join(".rustup")));
    let rig = Rig::new()
        .variable("NOT_UTF_8", OsStr::from_bytes(b"caf\xe9"))
        .variable("HTTPS_PROXY", "http://127.0.0.1:1")
        .variable("HTTP_PROXY", "http://127.0.0.1:1")
        .variable("NO_PROXY", ",,")
        .variable("TMPDIR", &temporary)
        .variable("CARGO_HOME", &cargo_home.unwrap())
        .variable("RUSTUP_HOME", &rustup_home.unwrap())
        .variable("HOME", &home)
        .variable("LC_ALL", "xx_XX.UTF-8")
        .variable("PATH", &path);
    rig.up();
    let traces = rig.traces();
    rig.run(&["smoke"]).expect_code(0);
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    fs::remove_file(home.join("redis-server")).unwrap();
    // It asks as the run would, and without its user's files the shim fails.
    let doctor = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("doctor")
        .env("TRII_HARNESS_HOME", rig.home())
        .env("HOME", &home)
        .env("PATH", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout);
    let shim = bin.join("redis-server");
    let words = format!("{} does not tell its version", shim.display());
    assert!(said.contains(&words), "{said}");
}

/// Becomes nobody, who may read this checkout wherever it is, and nothing else.
const AS_NOBODY: [&str; 6] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=+dac_read_search",
];

/// As root has it tested, by another user; else the one of these tests is it.
#[test]
fn an_ordinary_user_has_an_environment_too() {
    let is_root = nix::unistd::Uid::effective().is_root();
    let through: &[&str] = if is_root { &AS_NOBODY } else { &[] };
    let rig = Rig::new();
    let config = rig.config();
    let folder = config.parent().unwrap();
    // What is built is root's: nobody writes there.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package=platform", "--locked"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let (messages, cargo) = (folder.join("messages"), folder.join("cargo"));
    fs::write(&messages, built.stdout).unwrap();
    fs::write(&cargo, format!("#!/bin/sh\ncat {}\n", messages.display())).unwrap();
    fs::set_permissions(&cargo, Permissions::from_mode(0o755)).unwrap();
    if is_root {
        for path in [folder, &config, &messages, &cargo] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
    }
    let rig = rig.variable("CARGO", &cargo).variable("HOME", folder);
    let run = |arguments: &[&str]| rig.spawn_through(through, arguments).ends_within(UP);
    run(&["up"]).expect_code(0);
    let traces = rig.traces();
    run(&["smoke"]).expect_code(0);
    run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
}
