//! Why there are no figures.

use std::path::{Path, PathBuf};

use harness::environment::EnvironmentError;
use harness::exit::ExitCode;
use harness::file_lock::LockError;
use harness::images::ImageError;
use harness::ledger::LedgerError;
use harness::process::bound::StartError;
use harness::subprocess::SubprocessError;
use harness::wait::WaitError;
use miette::Diagnostic;
use thiserror::Error;

/// A benchmark ended without results.
#[derive(Debug, Error, Diagnostic)]
pub enum BenchError {
    /// The load generator is not there.
    #[error("wrk, which loads the servers, is not installed")]
    #[diagnostic(help(
        "`sudo apt-get install wrk` or `brew install wrk`; `cargo xtask bench local` does without"
    ))]
    NoWrk,
    /// Nothing here can pin a process to a core.
    #[error("taskset, which keeps each server on a core of its own, is not installed")]
    #[diagnostic(help(
        "it is part of util-linux (`sudo apt-get install util-linux`) and of Linux alone: elsewhere run this in a virtual machine; `cargo xtask bench local` does without"
    ))]
    NoTaskset,
    /// Server and generator would share a core.
    #[error("server and load generator need a core each, and this process may use {allowed}")]
    #[diagnostic(help(
        "give the machine, or the container (`--cpuset-cpus`), two cores; `cargo xtask bench local` does with one"
    ))]
    TooFewCores {
        /// How many it may use.
        allowed: usize,
    },
    /// Two at once would measure each other.
    #[error("another benchmark may be running: {0}")]
    #[diagnostic(transparent)]
    AlreadyRunning(#[from] LockError),
    /// A file cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    #[diagnostic(help(
        "free space or make the folder writable (`df -h` and `ls -ld` on it tell), or choose another with --home"
    ))]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A round of the command under measure did not hold.
    #[error("`cargo xtask {verb}` of a round ended with {how}; its last words: {last_words}")]
    #[diagnostic(help(
        "its words are in {}, its report in {}; a figure of a run that did not hold says nothing",
        console.display(), reports.display()
    ))]
    Round {
        /// The command.
        verb: &'static str,
        /// How it ended.
        how: String,
        /// The end of what it said.
        last_words: String,
        /// All it said.
        console: PathBuf,
        /// Where its report is.
        reports: PathBuf,
    },
    /// A round left no report, or one that lacks what is measured.
    #[error("the report of `cargo xtask {verb}` lacks {lacks}")]
    #[diagnostic(help("look at what the round left in {}", reports.display()))]
    Report {
        /// The command.
        verb: &'static str,
        /// What it lacks.
        lacks: &'static str,
        /// Where it is.
        reports: PathBuf,
    },
    /// The configuration cannot be changed for the measurement.
    #[error("cannot set WORKER_THREADS in {}: {reason}", path.display())]
    #[diagnostic(help("`cargo xtask doctor` reads the same file and says what is wrong with it"))]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A program did not do its work.
    #[error(transparent)]
    #[diagnostic(help("run it by hand to see more; nothing of the benchmark is left running"))]
    Program(#[from] SubprocessError),
    /// Cargo built something else.
    #[error("cargo named no executable {name}")]
    #[diagnostic(help("`{command}` shows what it does"))]
    NoExecutable {
        /// What was to be built.
        name: &'static str,
        /// How.
        command: String,
    },
    /// A step by hand cannot be prepared.
    #[error("cannot {what}: {reason}")]
    #[diagnostic(help("`cargo xtask e2e --target kind` does the same, and says more"))]
    Prepare {
        /// What was tried.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// An image is not to be had, or not on a node.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Image(#[from] ImageError),
    /// What is made could not be written down.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    /// The hello server cannot be started.
    #[error(transparent)]
    #[diagnostic(help("`cargo build --release -p platform --example hello` builds it"))]
    Start(#[from] StartError),
    /// The hello server does not come up.
    #[error(transparent)]
    #[diagnostic(help("its log is hello.log in the folder `bench/scratch` of the harness home"))]
    Wait(#[from] WaitError),
    /// The environment is not what it was when it came up.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Environment(#[from] EnvironmentError),
    /// The service under load cannot be pinned.
    #[error("market-data-service is no process of this machine: it runs as {runs_as:?}")]
    #[diagnostic(help("the figure is taken on the target `local`, whose services are processes"))]
    NoProcess {
        /// How it runs.
        runs_as: String,
    },
    /// A read that is to come from the cache does not.
    #[error("{url} is not answered from the cache: {seen}")]
    #[diagnostic(help(
        "a figure of uncached reads says nothing about cached ones: look whether Redis answers, with `cargo xtask up` and `cargo xtask smoke`"
    ))]
    NotCached {
        /// What was read.
        url: String,
        /// What came.
        seen: String,
    },
    /// What wrk saw cannot count.
    #[error("the load on {url} does not count: {reason}")]
    #[diagnostic(help("run it by hand to see more: wrk -t1 -c64 -d5s --latency {url}"))]
    Load {
        /// What was loaded.
        url: String,
        /// What is wrong with the answers.
        reason: String,
    },
    /// What a load generator did cannot count.
    #[error("a round of {who} does not count: {reason}")]
    #[diagnostic(help(
        "repeat on a quieter machine: the generator and the server it asks need a core each"
    ))]
    Generator {
        /// Which generator.
        who: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What the prober saw cannot count.
    #[error("a round of the prober does not count: {reason}")]
    #[diagnostic(help(
        "repeat on a quieter machine: the prober and the server it asks need a core each"
    ))]
    Prober {
        /// What is wrong with it.
        reason: String,
    },
    /// A release that was to be measured cannot count.
    #[error("a release cannot be measured: {what}: {reason}")]
    #[diagnostic(help(
        "repeat on a quieter machine; `cargo xtask up --target kind` and `cargo xtask blue-green deploy` show a release by itself"
    ))]
    Release {
        /// Of it, what is wrong.
        what: &'static str,
        /// How.
        reason: String,
    },
    /// Called off.
    #[error("called off; all that was started is ended")]
    #[diagnostic(help("nothing is left to clean up"))]
    Interrupted(ExitCode),
    /// Called off twice.
    #[error("left at once, on a second signal")]
    #[diagnostic(help("`cargo xtask down --all` removes what is left in {}", home.display()))]
    LeftAtOnce {
        /// What the signal stands for.
        code: ExitCode,
        /// The benchmark's home.
        home: PathBuf,
    },
    /// Something could not be taken down.
    #[error("not everything could be taken down: {}", left.join("; "))]
    #[diagnostic(help("`cargo xtask down --all` tries again, in {} too", home.display()))]
    CleanupIncomplete {
        /// One line each.
        left: Vec<String>,
        /// The benchmark's home.
        home: PathBuf,
    },
}

impl BenchError {
    /// The exit code that says so.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            BenchError::Interrupted(code) | BenchError::LeftAtOnce { code, .. } => *code,
            BenchError::CleanupIncomplete { .. } => ExitCode::CleanupIncomplete,
            BenchError::Configuration { .. } => ExitCode::Usage,
            _ => ExitCode::NoEnvironment,
        }
    }

    /// For `map_err`: what was tried for a step by hand.
    pub(super) fn prepare<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |reason| BenchError::Prepare {
            what,
            reason: reason.to_string(),
        }
    }

    /// For `map_err`: what of a release that was to be measured is wrong.
    pub(super) fn release<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |reason| BenchError::Release {
            what,
            reason: reason.to_string(),
        }
    }

    /// For `map_err`: what was tried with the file at `path`.
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| BenchError::File { what, path, source }
    }
}
