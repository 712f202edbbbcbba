//! Output that goes to a full disk or a closed pipe. Takes two seconds.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use loadtests::result::{
    Block, Distribution, Ended, Endpoint, EngineKind, Fingerprint, Generator, LoadResult, SCHEMA,
};

/// The commands that print on standard output and need no environment.
const PRINTING: [&[&str]; 7] = [
    &["--help"],
    &["load", "run", "--help"],
    &["scenario", "list"],
    &["scenario", "list", "--json"],
    &["status", "--json"],
    &["load", "show", "load-smoke.json"],
    // Not enough evidence: 5.
    &["load", "compare", "load-smoke.json", "load-smoke.json"],
];

/// Commands that print on standard error.
const PRINTING_ERRORS: [&[&str]; 3] = [&["status"], &["e2ee"], &["load", "show", "nowhere.json"]];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let block = Block {
        requests: 10,
        latency: (1..=10).map(|n| 1_000 * n).collect(),
        ..Block::default()
    };
    let endpoint = Endpoint {
        blocks: BTreeMap::from([(0, block)]),
        ..Endpoint::default()
    };
    let result = LoadResult {
        schema: SCHEMA,
        run: "run".into(),
        engine: EngineKind::Closed,
        fingerprint: Fingerprint::default(),
        begun: "2026-03-02T10:00:00Z".parse().unwrap(),
        block_millis: 1000,
        ended: Ended::Whole,
        generator: Generator {
            cores_used: 0.1,
            cores: 2,
            lag: Distribution::default(),
            bottleneck: None,
        },
        endpoints: BTreeMap::from([("GET /quotes".to_owned(), endpoint)]),
    };
    let text = serde_json::to_string(&result).unwrap();
    std::fs::write(folder.path().join("load-smoke.json"), text).unwrap();
    folder
}

fn xtask(folder: &Path, arguments: &[&str], out: Stdio, err: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(arguments)
        .env("TRII_HARNESS_HOME", folder.join("home"))
        .env("NO_COLOR", "1")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    command.spawn().unwrap().wait_with_output().unwrap()
}

/// Returns the exit code if all can be printed.
fn code(folder: &Path, arguments: &[&str]) -> i32 {
    let output = xtask(folder, arguments, Stdio::piped(), Stdio::piped());
    output.status.code().unwrap()
}

/// Returns the exit code if nothing can be printed.
fn code_without_output(folder: &Path, arguments: &[&str]) -> i32 {
    match code(folder, arguments) {
        0 => 3,
        failed => failed,
    }
}

fn full() -> Stdio {
    let full = File::options().write(true).open("/dev/full");
    full.unwrap().into()
}

/// Returns a pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_a_full_disk_loses_is_an_error() {
    let folder = folder();
    for arguments in PRINTING {
        let output = xtask(folder.path(), arguments, full(), Stdio::piped());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let expected = code_without_output(folder.path(), arguments);
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{arguments:?}: {stderr}"
        );
        let cause = "cannot write to standard output: No space left on device";
        assert!(stderr.contains(cause), "{arguments:?}: {stderr}");
        assert!(stderr.contains("df -h"), "{arguments:?}: {stderr}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn errors_that_a_full_disk_loses_change_the_exit_code_of_a_success_alone() {
    let folder = folder();
    for arguments in PRINTING_ERRORS {
        let output = xtask(folder.path(), arguments, Stdio::piped(), full());
        let expected = code_without_output(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}");
    }
}

#[test]
fn a_pipe_that_nobody_reads_changes_nothing() {
    let folder = folder();
    for arguments in PRINTING {
        let output = xtask(folder.path(), arguments, closed(), Stdio::piped());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let expected = code(folder.path(), arguments);
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{arguments:?}: {stderr}"
        );
        assert!(!stderr.contains("cannot write"), "{arguments:?}: {stderr}");
    }
    for arguments in PRINTING_ERRORS {
        let output = xtask(folder.path(), arguments, Stdio::piped(), closed());
        let expected = code(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}");
    }
}
