//! Why an environment did not come up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use crate::certificates::CertificateError;
use crate::environment::EnvironmentError;
use crate::remote::RemoteError;
use crate::router::PortTaken;
use base::ledger::LedgerError;
use base::process::StartError;
use base::run::event::Failure;
use base::wait::WaitError;
use kubernetes::ClusterError;
use machine::images::ImageError;

/// Why an environment did not come up. Exit code 3.
#[derive(Debug, Error, Diagnostic)]
pub enum UpError {
    /// The ledger cannot be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    /// The environment's files cannot be used, or its name is taken.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Environment(#[from] EnvironmentError),
    /// The target already exists, and cannot be brought up.
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
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A child could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A program or a directory of harness.toml does not exist.
    #[error("{part} cannot start: there is no {what}")]
    Absent {
        /// The part.
        part: String,
        /// E.g. `program "node"`.
        what: String,
    },
    /// A temporary directory cannot be created.
    #[error("cannot make the directory {}: {source}", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// No container engine answers.
    #[error("{why}")]
    NoEngine {
        /// Where the harness searched.
        why: String,
    },
    /// Neither containers nor binaries are available.
    #[error("{name} is not available: {why}")]
    NoSupply {
        /// `Postgres` or `Redis`.
        name: &'static str,
        /// What was tried.
        why: String,
    },
    /// A wait for a part failed.
    #[error("{wait}")]
    Wait {
        /// The part.
        part: String,
        /// Its log, if it has one.
        log: Option<PathBuf>,
        /// The failed wait.
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
    /// Another process took each free port.
    #[error("{part} found its port taken {tries} times")]
    Ports {
        /// The part.
        part: String,
        /// The number of ports.
        tries: usize,
        /// Its log.
        log: PathBuf,
    },
    /// A request to the engine failed.
    #[error("the engine did not {what}: {reason}")]
    Engine {
        /// The request, e.g. `start the container trii-default-postgres`.
        what: String,
        /// The engine's error.
        reason: String,
    },
    /// The images were not there in time.
    #[error("the images {names} are not here within {}s (deadlines.images)", deadline.as_secs())]
    Images {
        /// The recipes.
        names: String,
        /// The time limit.
        deadline: Duration,
    },
    /// A service is a container of an image that is not available.
    #[error("{service} has no image: {error}")]
    Image {
        /// The service.
        service: String,
        /// Why.
        error: Box<ImageError>,
    },
    /// A request to the cluster failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// The platform's release failed.
    #[error("{}", .0.seen)]
    Release(Box<Failure>),
    /// The ingress has no certificate.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Certificates(#[from] CertificateError),
    /// A file that harness.toml names cannot be used.
    #[error("{0}")]
    Input(Box<dyn Diagnostic + Send + Sync>),
    /// The operating system refused a step.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl UpError {
    /// Returns a function for `map_err`; `what` is the request.
    pub(crate) fn engine(what: impl Into<String>) -> impl FnOnce(String) -> UpError {
        let what = what.into();
        move |reason| UpError::Engine { what, reason }
    }

    /// Returns a function for `map_err`; `what` is the step.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> UpError {
        let what = what.into();
        move |source| UpError::System { what, source }
    }

    /// Returns a function for `map_err`, for a wait for `part`.
    pub(crate) fn wait(
        part: impl Into<String>,
        log: Option<PathBuf>,
    ) -> impl FnOnce(WaitError) -> UpError {
        let part = part.into();
        move |wait| UpError::Wait { part, log, wait }
    }

    /// Returns the failure for the report. `logs` is the folder of the run's logs.
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
            UpError::Environment(EnvironmentError::Undecided { path, .. }) => (
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
                "cargo xtask doctor; or backing_services = \"binaries\", and run in place of image, in \
                 harness.toml"
                    .into(),
            ),
            UpError::Images { .. } => (
                "every image, pulled or built".into(),
                "the same command again: what is built already stays; or a longer \
                 deadlines.images in harness.toml"
                    .into(),
            ),
            UpError::Image { error, .. } => (
                "the image of each service that is a container".into(),
                error
                    .help()
                    .map_or_else(|| "cargo xtask images list".into(), |help| help.to_string()),
            ),
            UpError::Cluster(_) | UpError::Release(_) => (
                "a cluster that takes what is applied to it".into(),
                format!("less {}", logs.display()),
            ),
            UpError::Remote(_) => (
                "a target that can be brought up".into(),
                "less docs/remote.md".into(),
            ),
            UpError::Certificates(_) => (
                "host names that a certificate can be made for".into(),
                "grep _host harness.toml".into(),
            ),
            UpError::Input(_) => (
                "files that harness.toml names, and that can be read".into(),
                "correct the file".into(),
            ),
            UpError::Absent { .. } => (
                "the programs and directories that harness.toml names".into(),
                "install it, or correct [platform.local] or [services.NAME.local] in harness.toml"
                    .into(),
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

    /// The error, and the last lines of the part's log.
    fn seen(&self) -> String {
        let last_lines = self.log().map(last_lines).unwrap_or_default();
        match last_lines.is_empty() {
            true => self.to_string(),
            false => format!("{self}; its last lines: {last_lines}"),
        }
    }
}

/// Returns the last lines of a log, short enough for a message.
pub fn last_lines(log: &Path) -> String {
    const LINES: usize = 5;
    const BYTES: usize = 2000;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(BYTES)..]).into_owned();
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}
