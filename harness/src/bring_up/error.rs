//! Why the local target did not come up.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::certificates::CertificateError;
use crate::cluster::ClusterError;
use crate::environment::EnvironmentError;
use crate::ledger::LedgerError;
use crate::process::bound::StartError;
use crate::remote::RemoteError;
use crate::router::PortTaken;
use crate::run::event::Failure;
use crate::wait::WaitError;

/// Why the local target did not come up. Each is the environment's fault, exit code 3.
#[derive(Debug, Error, Diagnostic)]
pub enum UpError {
    /// The ledger cannot be kept.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    /// The environment's files cannot be used, or its name is taken.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Environment(#[from] EnvironmentError),
    /// The target is one that is there, and not stood up.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Remote(#[from] RemoteError),
    /// The router's port is taken.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Port(#[from] PortTaken),
    /// The ingress' port is taken.
    #[error("the ingress cannot listen on 127.0.0.1:{port}: {source}")]
    IngressPort {
        /// The port.
        port: u16,
        /// The system's word.
        source: std::io::Error,
    },
    /// A child could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A temporary directory cannot be made.
    #[error("cannot make the directory {}: {source}", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// No container engine answers.
    #[error("{why}")]
    NoEngine {
        /// Where it was looked for.
        why: String,
    },
    /// Neither containers nor binaries are to be had.
    #[error("{name} is not to be had: {why}")]
    NoSupply {
        /// `Postgres` or `Redis`.
        name: &'static str,
        /// What was tried.
        why: String,
    },
    /// A part did not become what was waited for.
    #[error("{wait}")]
    Wait {
        /// The part.
        part: String,
        /// Its log, where it has one.
        log: Option<PathBuf>,
        /// What was waited for, and what was seen.
        wait: WaitError,
    },
    /// A part ended while it was being brought up.
    #[error("{part} ended while it was starting: {how}")]
    Ended {
        /// The part.
        part: String,
        /// How it ended.
        how: String,
        /// Its log.
        log: PathBuf,
    },
    /// No free port was free for long enough.
    #[error("{part} found its port taken {tries} times")]
    Ports {
        /// The part.
        part: String,
        /// How often another port was tried.
        tries: usize,
        /// Its log.
        log: PathBuf,
    },
    /// The engine did not do what it was asked.
    #[error("the engine did not {what}: {reason}")]
    Engine {
        /// What it was asked, e.g. `start the container trii-default-postgres`.
        what: String,
        /// Its word.
        reason: String,
    },
    /// The cluster did not do what it was asked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// The platform's release does not run.
    #[error("{}", .0.seen)]
    Release(Box<Failure>),
    /// No certificate for the ingress.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Certificates(#[from] CertificateError),
    /// A step could not be done for a reason of the system's.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// The system's word.
        source: std::io::Error,
    },
}

impl UpError {
    /// A mapper for the system's refusals.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> UpError {
        let what = what.into();
        move |source| UpError::System { what, source }
    }

    /// What a person needs to go on. `logs` is the run's folder of logs.
    pub fn failure(&self, logs: &Path) -> Failure {
        if let UpError::Release(failure) = self {
            return Failure::clone(failure);
        }
        let (expected, next): (String, String) = match self {
            UpError::Ledger(_) => (
                "a ledger of what is started, so that it can be cleaned up".into(),
                "df -h; then again, or with another --home".into(),
            ),
            UpError::Environment(EnvironmentError::InUse { name, .. }) => (
                "an environment name that is free".into(),
                format!("cargo xtask status --name {name}"),
            ),
            UpError::Environment(EnvironmentError::NotJudged { path, .. }) => (
                "an environment name that nobody has".into(),
                format!(
                    "end it where it runs; if it has ended, rm {}",
                    path.display()
                ),
            ),
            UpError::Environment(_) => (
                "files of the environment that can be read and written".into(),
                "cargo xtask doctor".into(),
            ),
            UpError::Port(_) => (
                "a free port for the router".into(),
                "ss -ltnp; or router_port = 0 in harness.toml".into(),
            ),
            UpError::IngressPort { port, .. } => (
                "a free port for the ingress".into(),
                format!("ss -ltnp 'sport = :{port}'; or ingress_port = 0 in harness.toml"),
            ),
            UpError::NoEngine { .. } | UpError::NoSupply { .. } => (
                "an engine with images, or binaries on PATH".into(),
                "cargo xtask doctor, or again with --provision".into(),
            ),
            UpError::Engine { .. } => (
                "a container engine that works".into(),
                "cargo xtask doctor; or backing_services = \"binaries\" in harness.toml".into(),
            ),
            UpError::Cluster(_) | UpError::Release(_) => (
                "a cluster that takes what is applied to it".into(),
                format!("less {}", logs.display()),
            ),
            UpError::Remote(_) => (
                "a target that is stood up".into(),
                "less docs/remote.md".into(),
            ),
            UpError::Certificates(_) => (
                "host names that a certificate can be made for".into(),
                "grep _host harness.toml".into(),
            ),
            UpError::Start(_) | UpError::Directory { .. } | UpError::System { .. } => (
                "a machine that lets the harness start it".into(),
                "cargo xtask doctor".into(),
            ),
            UpError::Wait { .. } | UpError::Ended { .. } | UpError::Ports { .. } => (
                "every part up and answering".into(),
                format!("less {}", self.log().unwrap_or(logs).display()),
            ),
        };
        Failure {
            what: "the environment did not come up".into(),
            expected,
            seen: self.seen(),
            look_at: self.log().unwrap_or(logs).display().to_string(),
            next,
        }
    }

    fn log(&self) -> Option<&Path> {
        match self {
            UpError::Wait { log, .. } => log.as_deref(),
            UpError::Ended { log, .. } | UpError::Ports { log, .. } => Some(log),
            _ => None,
        }
    }

    /// The error, and the last words of the part it is about.
    fn seen(&self) -> String {
        let last_words = self.log().map(last_lines).unwrap_or_default();
        match last_words.is_empty() {
            true => self.to_string(),
            false => format!("{self}; its last words: {last_words}"),
        }
    }
}

/// The end of a log, short enough for a message.
pub fn last_lines(log: &Path) -> String {
    const LINES: usize = 5;
    const BYTES: usize = 2000;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(BYTES)..]).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}
