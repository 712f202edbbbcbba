//! The errors of a release.

use miette::Diagnostic;
use thiserror::Error;

use super::lock::LeaseError;
use base::exit::ExitCode;
use base::text::nearest;
use kubernetes::ClusterError;

/// The error of a release. In each case all traffic is on one colour.
#[derive(Debug, Error, Diagnostic)]
pub enum BlueGreenError {
    /// There is no such service.
    #[error("there is no service {service:?} in namespace {namespace} that is released blue-green")]
    #[diagnostic(help("{hint}"))]
    UnknownService {
        /// The given name.
        service: String,
        /// The namespace.
        namespace: String,
        /// The nearest name, or the known ones.
        hint: String,
    },
    /// The service has one track only.
    #[error("{service} is not released blue-green: its Service has no label for it")]
    #[diagnostic(help(
        "set services.{service}.blueGreen.enabled in the chart's values and deploy; the chart's README says how to do this without downtime"
    ))]
    NotBlueGreen {
        /// The service.
        service: String,
    },
    /// The version cannot be a tag and a label.
    #[error("{version:?} cannot be a version: {reason}")]
    #[diagnostic(help(
        "a version is an image's tag and a pod's label: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, and not `latest`"
    ))]
    Version {
        /// The given version.
        version: String,
        /// The cause.
        reason: &'static str,
    },
    /// A colour is missing.
    #[error("there is no Deployment {deployment} in namespace {namespace}")]
    #[diagnostic(help(
        "deploy the chart again: it creates both colours and moves no traffic (`cargo xtask deploy`)"
    ))]
    NoDeployment {
        /// The Deployment.
        deployment: String,
        /// The namespace.
        namespace: String,
    },
    /// The active Service selects neither colour, or both.
    #[error("no colour is live: the active Service {service} selects {selector:?}")]
    #[diagnostic(help(
        "somebody has edited it: `cargo xtask blue-green abort --service {service}` makes it select one of them again"
    ))]
    NoLiveColour {
        /// The Service.
        service: String,
        /// Its selector.
        selector: String,
    },
    /// The pod template lacks the service's container.
    #[error("{deployment} has no container {container}, but {}", .there.join(", "))]
    #[diagnostic(help("the container to release must have the service's name"))]
    NoContainer {
        /// The Deployment.
        deployment: String,
        /// The container.
        container: String,
        /// The existing containers.
        there: Vec<String>,
    },
    /// The image has no tag that could change.
    #[error("the image of {deployment} has no tag")]
    #[diagnostic(help("an image with a digest cannot be released by version"))]
    NoTag {
        /// The Deployment.
        deployment: String,
    },
    /// A check before the first change failed.
    #[error("{what}")]
    #[diagnostic(help("{help}"))]
    Preflight {
        /// The cause.
        what: String,
        /// What to do.
        help: String,
    },
    /// There is no release in progress.
    #[error("no release of {service} is in progress")]
    #[diagnostic(help("`cargo xtask blue-green status --service {service}` shows what is live"))]
    NothingInProgress {
        /// The service.
        service: String,
    },
    /// The release in progress belongs to another deployer.
    #[error(
        "release {release} of {version} belongs to {whose}, and is not changed: it is at the step {step} since {since}"
    )]
    #[diagnostic(help(
        "its owner can end it: `cargo xtask blue-green promote --service {service}`, or `abort`"
    ))]
    OfAnother {
        /// The service.
        service: String,
        /// The release's id.
        release: String,
        /// The release's version.
        version: String,
        /// Who started or continued it.
        whose: String,
        /// The release's step.
        step: String,
        /// When the step began.
        since: String,
    },
    /// Another service of the release failed.
    #[error("{service} is not changed, because {other} failed: {why}")]
    #[diagnostic(help("either all services of a release are released, or none"))]
    Together {
        /// This service.
        service: String,
        /// The service that failed.
        other: String,
        /// The cause.
        why: String,
    },
    /// The release in progress has other services.
    #[error("release {release} of {version} is of {}", .together.join(", "))]
    #[diagnostic(help("name exactly those services, each with its own --service"))]
    OfSeveral {
        /// The release's id.
        release: String,
        /// The release's version.
        version: String,
        /// The release's services.
        together: Vec<String>,
    },
    /// The operation is not possible at this step.
    #[error("release {release} cannot be {operation}: it is at the step {step}")]
    #[diagnostic(help("{help}"))]
    WrongStep {
        /// The release's id.
        release: String,
        /// The operation: `promoted`.
        operation: &'static str,
        /// The release's step.
        step: String,
        /// What to do.
        help: &'static str,
    },
    /// Somebody else changed an object of the deployer.
    #[error("{what}")]
    #[diagnostic(help("{help}"))]
    ChangedByOthers {
        /// The change.
        what: String,
        /// What to do.
        help: String,
    },
    /// Somebody else wrote the record.
    #[error("{object} was written by somebody else meanwhile")]
    #[diagnostic(help(
        "another deployer has taken over, as this one did not answer: `cargo xtask blue-green status` shows its progress"
    ))]
    Overtaken {
        /// The object.
        object: String,
    },
    /// The record cannot be read.
    #[error("{object} cannot be read: {reason}")]
    #[diagnostic(help(
        "somebody has edited it, or a later version of this program wrote it: find out what is live, then delete it"
    ))]
    Record {
        /// The object.
        object: String,
        /// The cause.
        reason: String,
    },
    /// A release stopped before its end.
    #[error("release {release} stopped at the step {step}: {source}")]
    #[diagnostic(help(
        "`cargo xtask blue-green status --service {service}` shows what is live; `deploy` with the same version continues it, `abort` rolls it back"
    ))]
    Unfinished {
        /// The service.
        service: String,
        /// The release's id.
        release: String,
        /// The release's step.
        step: String,
        /// The cause.
        source: Box<BlueGreenError>,
    },
    /// The lock cannot be taken, or was lost.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] LeaseError),
    /// The API server refused a request, or did not answer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
}

impl BlueGreenError {
    pub(super) fn unknown_service(service: &str, namespace: &str, known: &[String]) -> Self {
        let hint = match known {
            [] => "none is: set services.NAME.blueGreen.enabled in the chart's values".to_owned(),
            known => nearest(service, known.iter().map(String::as_str))
                .unwrap_or_else(|| format!("there is {}", known.join(", "))),
        };
        BlueGreenError::UnknownService {
            service: service.to_owned(),
            namespace: namespace.to_owned(),
            hint,
        }
    }

    pub(super) fn preflight(what: impl Into<String>, help: impl Into<String>) -> Self {
        BlueGreenError::Preflight {
            what: what.into(),
            help: help.into(),
        }
    }

    /// Returns what was expected, for a report.
    pub fn expected(&self) -> &'static str {
        match self {
            BlueGreenError::UnknownService { .. } | BlueGreenError::NotBlueGreen { .. } => {
                "a service that the chart's values release blue-green"
            }
            BlueGreenError::Version { .. } => "a version that is a tag and a label",
            BlueGreenError::Preflight { .. } => "every check before a release to pass",
            BlueGreenError::NothingInProgress { .. } | BlueGreenError::WrongStep { .. } => {
                "a release at a step that allows this"
            }
            BlueGreenError::Together { .. } => "every service of the release to pass",
            BlueGreenError::OfSeveral { .. } => "all services of the release",
            BlueGreenError::OfAnother { .. }
            | BlueGreenError::ChangedByOthers { .. }
            | BlueGreenError::Overtaken { .. } => "nobody else to change it",
            BlueGreenError::Unfinished { source, .. } => source.expected(),
            BlueGreenError::Lock(LeaseError::Cluster(_)) | BlueGreenError::Cluster(_) => {
                "an API server that answers and permits this"
            }
            BlueGreenError::Lock(_) => "nobody else to release it",
            BlueGreenError::NoDeployment { .. }
            | BlueGreenError::NoLiveColour { .. }
            | BlueGreenError::NoContainer { .. }
            | BlueGreenError::NoTag { .. }
            | BlueGreenError::Record { .. } => "the service's objects as the chart creates them",
        }
    }

    /// Returns the exit code of a command that fails with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            BlueGreenError::UnknownService { .. }
            | BlueGreenError::NotBlueGreen { .. }
            | BlueGreenError::Version { .. } => ExitCode::Usage,
            BlueGreenError::Cluster(error) | BlueGreenError::Lock(LeaseError::Cluster(error)) => {
                error.exit_code()
            }
            BlueGreenError::Record { .. } => ExitCode::NoEnvironment,
            // Refused means that nothing was changed.
            BlueGreenError::Unfinished { source, .. } => match source.exit_code() {
                ExitCode::Refused => ExitCode::NoEnvironment,
                code => code,
            },
            _ => ExitCode::Refused,
        }
    }
}
