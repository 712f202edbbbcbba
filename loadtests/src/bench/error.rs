//! Why a benchmark failed.

use std::path::{Path, PathBuf};

use base::exit::ExitCode;
use base::file_lock::LockError;
use base::ledger::LedgerError;
use base::process::CommandError;
use base::process::StartError;
use base::wait::WaitError;
use environments::environment::EnvironmentError;
use machine::images::ImageError;
use miette::Diagnostic;
use thiserror::Error;

/// A benchmark has no results.
#[derive(Debug, Error, Diagnostic)]
pub enum BenchError {
    /// The load generator is not installed.
    #[error("wrk, which loads the servers, is not installed")]
    #[diagnostic(help(
        "`sudo apt-get install wrk` or `brew install wrk`; `cargo xtask bench local` does not need it"
    ))]
    NoWrk,
    /// Nothing here can pin a process to a core.
    #[error("taskset, which pins each server to its core, is not installed")]
    #[diagnostic(help(
        "it is part of util-linux (`sudo apt-get install util-linux`), for Linux only: on other systems use a virtual machine; `cargo xtask bench local` does not need it"
    ))]
    NoTaskset,
    /// Server and generator would share a core.
    #[error("server and load generator need a core each, and this process may use {allowed}")]
    #[diagnostic(help(
        "give the machine, or the container (`--cpuset-cpus`), two cores; `cargo xtask bench local` needs one"
    ))]
    TooFewCores {
        /// The number of cores that it may use.
        allowed: usize,
    },
    /// Two benchmarks at once would disturb each other.
    #[error("another benchmark may be running: {0}")]
    #[diagnostic(transparent)]
    AlreadyRunning(#[from] LockError),
    /// A file cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    #[diagnostic(help(
        "free space or make the folder writable (see `df -h` and `ls -ld`), or choose another with --home"
    ))]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The measured command failed in a round.
    #[error("`cargo xtask {verb}` of a round ended with {how}; its last lines: {last_lines}")]
    #[diagnostic(help(
        "its output is in {}, its report in {}; a failed run is no measurement",
        console.display(), reports.display()
    ))]
    Round {
        /// The command.
        verb: &'static str,
        /// How it ended.
        how: String,
        /// The end of its output.
        last_lines: String,
        /// The file with its output.
        console: PathBuf,
        /// The folder of its report.
        reports: PathBuf,
    },
    /// A round left no report, or an incomplete one.
    #[error("the report of `cargo xtask {verb}` lacks {lacks}")]
    #[diagnostic(help("see the files of the round in {}", reports.display()))]
    Report {
        /// The command.
        verb: &'static str,
        /// What it lacks.
        lacks: &'static str,
        /// The folder of the report.
        reports: PathBuf,
    },
    /// The configuration cannot be changed for the measurement.
    #[error("cannot set WORKER_THREADS in {}: {reason}", path.display())]
    #[diagnostic(help("`cargo xtask doctor` reads the same file and reports what is wrong"))]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A program failed.
    #[error(transparent)]
    #[diagnostic(help("run it by hand to see more; nothing of the benchmark is left running"))]
    Program(#[from] CommandError),
    /// Cargo built something else.
    #[error("cargo named no executable {name}")]
    #[diagnostic(help("`{command}` shows its output"))]
    NoExecutable {
        /// The executable.
        name: &'static str,
        /// The command that builds it.
        command: String,
    },
    /// A step by hand cannot be prepared.
    #[error("cannot {what}: {reason}")]
    #[diagnostic(help("`cargo xtask e2e --target kind` does the same, and reports more"))]
    Prepare {
        /// What was tried.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// An image is not available, or not on a node.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Image(#[from] ImageError),
    /// The ledger cannot be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    /// The hello server cannot be started.
    #[error(transparent)]
    #[diagnostic(help("`cargo build --release -p platform --example hello` builds it"))]
    Start(#[from] StartError),
    /// The hello server did not start.
    #[error(transparent)]
    #[diagnostic(help("its log is hello.log in the folder `bench/scratch` of the harness home"))]
    Wait(#[from] WaitError),
    /// The environment has changed since it started.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Environment(#[from] EnvironmentError),
    /// The service under load cannot be pinned.
    #[error("market-data-service is not a process of this machine: it runs as {runs_as:?}")]
    #[diagnostic(help(
        "the figure is measured on the target `local`, whose services are processes"
    ))]
    NoProcess {
        /// How it runs.
        runs_as: String,
    },
    /// A read that should come from the cache does not.
    #[error("{url} is not answered from the cache: {seen}")]
    #[diagnostic(help(
        "uncached reads say nothing about cached ones: check whether Redis answers, with `cargo xtask up` and `cargo xtask smoke`"
    ))]
    NotCached {
        /// The URL.
        url: String,
        /// The response.
        seen: String,
    },
    /// A measurement of wrk does not count.
    #[error("the load on {url} does not count: {reason}")]
    #[diagnostic(help("run it by hand to see more: wrk -t1 -c64 -d5s --latency {url}"))]
    Load {
        /// The URL.
        url: String,
        /// Why not.
        reason: String,
    },
    /// A measurement of a load generator does not count.
    #[error("a round of {who} does not count: {reason}")]
    #[diagnostic(help("repeat on a quieter machine: a generator and its server need a core each"))]
    Generator {
        /// The generator.
        who: &'static str,
        /// Why not.
        reason: String,
    },
    /// A release cannot be measured.
    #[error("a release cannot be measured: {what}: {reason}")]
    #[diagnostic(help(
        "repeat on a quieter machine; `cargo xtask up --target kind` and `cargo xtask blue-green deploy` show a release by itself"
    ))]
    Release {
        /// What failed.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Cancelled.
    #[error("cancelled; everything that was started has ended")]
    #[diagnostic(help("nothing is left to clean up"))]
    Interrupted(ExitCode),
    /// Cancelled twice.
    #[error("exited immediately, on a second signal")]
    #[diagnostic(help("`cargo xtask down --all` removes what is left in {}", home.display()))]
    ExitedImmediately {
        /// The signal's exit code.
        code: ExitCode,
        /// The benchmark's home.
        home: PathBuf,
    },
    /// Something could not be torn down.
    #[error("not everything could be torn down: {}", left.join("; "))]
    #[diagnostic(help("`cargo xtask down --all` tries again, also in {}", home.display()))]
    CleanupIncomplete {
        /// What is left, one line each.
        left: Vec<String>,
        /// The benchmark's home.
        home: PathBuf,
    },
}

impl BenchError {
    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            BenchError::Interrupted(code) | BenchError::ExitedImmediately { code, .. } => *code,
            BenchError::CleanupIncomplete { .. } => ExitCode::CleanupIncomplete,
            BenchError::Configuration { .. } => ExitCode::Usage,
            _ => ExitCode::NoEnvironment,
        }
    }

    /// For `map_err`: a step by hand that failed.
    pub(super) fn prepare<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |reason| BenchError::Prepare {
            what,
            reason: reason.to_string(),
        }
    }

    /// For `map_err`: a measurement of the load generator `who` that does not count.
    pub(super) fn does_not_count<E: std::fmt::Display>(
        who: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |reason| BenchError::Generator {
            who,
            reason: reason.to_string(),
        }
    }

    /// For `map_err`: what failed in a release.
    pub(super) fn release<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |reason| BenchError::Release {
            what,
            reason: reason.to_string(),
        }
    }

    /// For `map_err`: what failed with the file at `path`.
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| BenchError::File { what, path, source }
    }
}
