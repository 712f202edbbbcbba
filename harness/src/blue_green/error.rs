//! Why a release is not made.

use miette::Diagnostic;
use thiserror::Error;

use super::lock::LockError;
use super::record::Record;
use crate::cluster::ClusterError;
use crate::config::nearest;
use crate::exit::ExitCode;

/// Why a release is not made. In none of these is traffic anywhere but on one colour.
#[derive(Debug, Error, Diagnostic)]
pub enum BlueGreenError {
    /// There is no such service.
    #[error("there is no service {service:?} in namespace {namespace} that is released blue-green")]
    #[diagnostic(help("{hint}"))]
    UnknownService {
        /// What was asked for.
        service: String,
        /// Where it was looked for.
        namespace: String,
        /// The nearest, or those that are.
        hint: String,
    },
    /// The service has one track only.
    #[error("{service} is not released blue-green: its Service does not say so")]
    #[diagnostic(help(
        "set services.{service}.blueGreen.enabled in the chart's values and deploy; the chart's README says how it goes without a gap"
    ))]
    NotBlueGreen {
        /// Which.
        service: String,
    },
    /// The version cannot be a tag and a label.
    #[error("{version:?} cannot be a version: {reason}")]
    #[diagnostic(help(
        "a version is an image's tag and a pod's label: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, and not `latest`"
    ))]
    Version {
        /// What was given.
        version: String,
        /// Why.
        reason: &'static str,
    },
    /// A colour is missing.
    #[error("there is no Deployment {deployment} in namespace {namespace}")]
    #[diagnostic(help(
        "deploy the chart again: it makes both colours and moves neither (`cargo xtask deploy`)"
    ))]
    NoDeployment {
        /// Which.
        deployment: String,
        /// Where.
        namespace: String,
    },
    /// The active Service selects neither colour, or both.
    #[error("no colour is live: the active Service {service} selects {selector:?}")]
    #[diagnostic(help(
        "somebody has changed it by hand: `cargo xtask blue-green abort --service {service}` has it select one of them again"
    ))]
    NoLiveColour {
        /// The Service.
        service: String,
        /// Its selector.
        selector: String,
    },
    /// The pod template is not what is expected.
    #[error("{deployment} has no container {container}, but {}", .there.join(", "))]
    #[diagnostic(help("the container that is released must be named as the service"))]
    NoContainer {
        /// The Deployment.
        deployment: String,
        /// The name.
        container: String,
        /// Those that are there.
        there: Vec<String>,
    },
    /// Its image has no tag that could be another.
    #[error("the image of {deployment} has no tag")]
    #[diagnostic(help("an image that is named by its digest cannot be released by version"))]
    NoTag {
        /// The Deployment.
        deployment: String,
    },
    /// Something stands against a release before anything was changed.
    #[error("{what}")]
    #[diagnostic(help("{help}"))]
    Preflight {
        /// What.
        what: String,
        /// What to do about it.
        help: String,
    },
    /// Nothing is under way.
    #[error("no release of {service} is under way")]
    #[diagnostic(help("`cargo xtask blue-green status --service {service}` shows what is live"))]
    NothingUnderWay {
        /// The service.
        service: String,
    },
    /// What is under way is somebody else's.
    #[error(
        "release {release} of {version} is {whose}'s, and is left alone: it is at the step {step} since {since}"
    )]
    #[diagnostic(help(
        "it is for them to end: `cargo xtask blue-green promote --service {service}`, or `abort`"
    ))]
    Anothers {
        /// The service.
        service: String,
        /// Its id.
        release: String,
        /// The version that it brings.
        version: String,
        /// Who began it, or went on with it.
        whose: String,
        /// Where it is.
        step: String,
        /// Since when.
        since: String,
    },
    /// Another service of the release does not hold.
    #[error("{service} is left as it is, since {other} does not hold: {why}")]
    #[diagnostic(help("services of one release are released together, or none of them is"))]
    Together {
        /// This one.
        service: String,
        /// The other one.
        other: String,
        /// Why it does not.
        why: String,
    },
    /// What is under way is a release of several services.
    #[error("release {release} of {version} is of {}", .together.join(", "))]
    #[diagnostic(help("name those services and no others, each by a --service of its own"))]
    OfSeveral {
        /// Its id.
        release: String,
        /// The version that it brings.
        version: String,
        /// The services.
        together: Vec<String>,
    },
    /// What was asked for is not possible where the release is.
    #[error("release {release} cannot be {asked}: it is at the step {step}")]
    #[diagnostic(help("{help}"))]
    WrongStep {
        /// Which.
        release: String,
        /// What was asked for: `promoted`.
        asked: &'static str,
        /// Where it is.
        step: String,
        /// What to do.
        help: &'static str,
    },
    /// Somebody else changed what is the deployer's.
    #[error("{what}")]
    #[diagnostic(help("{help}"))]
    Meddled {
        /// What was seen.
        what: String,
        /// What to do.
        help: String,
    },
    /// Somebody else wrote the record.
    #[error("{object} was written by somebody else meanwhile")]
    #[diagnostic(help(
        "another deployer has taken over, as this one was not heard of: `cargo xtask blue-green status` shows where it is"
    ))]
    Overtaken {
        /// Which object.
        object: String,
    },
    /// The record cannot be read.
    #[error("{object} cannot be read: {reason}")]
    #[diagnostic(help(
        "it was written by hand or by a later version of this program; see what is live, then delete it"
    ))]
    Record {
        /// Which object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A release that had begun is not at its end.
    #[error("release {release} is left at the step {step}: {source}")]
    #[diagnostic(help(
        "`cargo xtask blue-green status --service {service}` shows what is live; `deploy` with the same version goes on from there, `abort` takes it back"
    ))]
    Unfinished {
        /// The service.
        service: String,
        /// Which.
        release: String,
        /// Where it is.
        step: String,
        /// What stands against its end.
        source: Box<BlueGreenError>,
    },
    /// The lock is not to be had, or was lost.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] LockError),
    /// The cluster does not do what it is asked.
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

    pub(super) fn anothers(service: &str, record: &Record) -> Self {
        BlueGreenError::Anothers {
            service: service.to_owned(),
            release: record.release.clone(),
            version: record.version.clone(),
            whose: record.deployer.clone(),
            step: record.step.to_string(),
            since: format!("{:.0}", record.since),
        }
    }

    /// What should have been, for whoever is told.
    pub fn expected(&self) -> &'static str {
        match self {
            BlueGreenError::UnknownService { .. } | BlueGreenError::NotBlueGreen { .. } => {
                "a service that the chart's values have released blue-green"
            }
            BlueGreenError::Version { .. } => "a version that is a tag and a label",
            BlueGreenError::Preflight { .. } => "nothing that stands against a release",
            BlueGreenError::NothingUnderWay { .. } | BlueGreenError::WrongStep { .. } => {
                "a release that is where this can be done to it"
            }
            BlueGreenError::Together { .. } => "every service of the release to hold",
            BlueGreenError::OfSeveral { .. } => "all services of the release",
            BlueGreenError::Anothers { .. }
            | BlueGreenError::Meddled { .. }
            | BlueGreenError::Overtaken { .. } => "nobody else at work on it",
            BlueGreenError::Unfinished { source, .. } => source.expected(),
            BlueGreenError::Lock(LockError::Cluster(_)) | BlueGreenError::Cluster(_) => {
                "an API server that answers and lets us"
            }
            BlueGreenError::Lock(_) => "nobody else who releases it",
            BlueGreenError::NoDeployment { .. }
            | BlueGreenError::NoLiveColour { .. }
            | BlueGreenError::NoContainer { .. }
            | BlueGreenError::NoTag { .. }
            | BlueGreenError::Record { .. } => "the service's objects as the chart made them",
        }
    }

    /// What a command ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            BlueGreenError::UnknownService { .. }
            | BlueGreenError::NotBlueGreen { .. }
            | BlueGreenError::Version { .. } => ExitCode::Usage,
            BlueGreenError::Cluster(error) | BlueGreenError::Lock(LockError::Cluster(error)) => {
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
