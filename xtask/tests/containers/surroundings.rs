//! Environments come up under any user, with any of their variables.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::{Rig, UP};

/// Makes a program as asdf and mise have it on PATH: it finds the real one by its user's files.
fn shim(folder: &Path, home: &Path, name: &str) {
    let real = machine::tools::on_path(name).unwrap_or_else(|| panic!("no {name} on PATH"));
    fs::write(home.join(name), format!("{}\n", real.display())).unwrap();
    let script = format!("#!/bin/sh\nread -r real <\"$HOME/{name}\" && exec \"$real\" \"$@\"\n");
    fs::write(folder.join(name), script).unwrap();
    fs::set_permissions(folder.join(name), Permissions::from_mode(0o755)).unwrap();
}

/// All at the same time: a variable that is not UTF-8, a proxy that does not answer, a NO_PROXY of
/// empty entries, a private folder for temporary files with a space in its name, a shim, an empty
/// entry in PATH, and a locale that does not exist.
#[test]
fn an_environment_comes_up_with_any_variables_of_its_user() {
    let room = tempfile::tempdir().unwrap();
    let [temporary, home, bin] = ["my files", "home", "bin"].map(|name| room.path().join(name));
    for folder in [&temporary, &home, &bin] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
    }
    shim(&bin, &home, "redis-server");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}::{path}", bin.display());
    // cargo builds the platform, and looks for its files below HOME.
    let or_in_home = |variable: &str, folder: &str| match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir().unwrap().join(folder),
    };
    let rig = Rig::new()
        .variable("NOT_UTF_8", OsStr::from_bytes(b"caf\xe9"))
        .variable("HTTPS_PROXY", "http://127.0.0.1:1")
        .variable("HTTP_PROXY", "http://127.0.0.1:1")
        .variable("NO_PROXY", ",,")
        .variable("TMPDIR", &temporary)
        .variable("CARGO_HOME", &or_in_home("CARGO_HOME", ".cargo"))
        .variable("RUSTUP_HOME", &or_in_home("RUSTUP_HOME", ".rustup"))
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
    // A check of the program uses the run's environment: without its user's files the shim fails.
    let doctor = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("doctor")
        .env("TRII_HARNESS_HOME", rig.home())
        .env("HOME", &home)
        .env("PATH", &path)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&doctor.stdout);
    let shim = bin.join("redis-server");
    let message = format!("{} does not print its version", shim.display());
    assert!(output.contains(&message), "{output}");
}

/// Changes the user to nobody, who may read this checkout wherever it is.
const AS_NOBODY: [&str; 6] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=+dac_read_search",
];

/// If these tests run as root, the user is nobody; else the user of these tests.
#[test]
fn an_ordinary_user_has_an_environment_too() {
    let is_root = nix::unistd::Uid::effective().is_root();
    let through: &[&str] = if is_root { &AS_NOBODY } else { &[] };
    let rig = Rig::new();
    let config = rig.config();
    let folder = config.parent().unwrap();
    // The target folder is root's: the user nobody cannot write to it.
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
