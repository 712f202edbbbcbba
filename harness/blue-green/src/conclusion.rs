//! How a release ended.

use std::fmt;

use super::colour::Colour;
use super::error::BlueGreenError;
use super::record::{AuditEntry, ReleaseOutcome};
use base::exit::ExitCode;

/// How a release ended. Exactly one colour is live in each case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// The version was live already.
    AlreadyLive {
        /// The version.
        version: String,
        /// The colour.
        colour: Colour,
    },
    /// The version was live already, and its pods are not healthy.
    LiveUnhealthy {
        /// The version.
        version: String,
        /// The colour.
        colour: Colour,
        /// The cause.
        why: String,
    },
    /// Everything is ready for the switch.
    AtGate {
        /// The version.
        version: String,
        /// The colour that has it.
        colour: Colour,
    },
    /// The version is live.
    Released {
        /// The version.
        version: String,
        /// The colour that has it.
        colour: Colour,
    },
    /// The version was rolled back before it had traffic.
    RolledBack {
        /// The cause.
        why: String,
        /// Whether the analysis was inconclusive.
        inconclusive: bool,
    },
    /// The version was rolled back, and its traffic is on the old colour again.
    Reverted {
        /// The cause.
        why: String,
        /// Whether the analysis was inconclusive.
        inconclusive: bool,
    },
}

impl Conclusion {
    /// Returns the conclusion of a release that another deployer ended.
    pub(super) fn of(entry: &AuditEntry) -> Conclusion {
        let record = &entry.record;
        let (why, inconclusive) = (record.why.clone().unwrap_or_default(), false);
        match entry.outcome {
            ReleaseOutcome::Released => Conclusion::Released {
                version: record.version.clone(),
                colour: record.to,
            },
            ReleaseOutcome::Reverted => Conclusion::Reverted { why, inconclusive },
            ReleaseOutcome::RolledBack => Conclusion::RolledBack { why, inconclusive },
        }
    }

    /// Returns the exit code of a command with this conclusion.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Conclusion::AlreadyLive { .. }
            | Conclusion::AtGate { .. }
            | Conclusion::Released { .. } => ExitCode::Held,
            Conclusion::RolledBack { inconclusive, .. }
            | Conclusion::Reverted { inconclusive, .. }
                if *inconclusive =>
            {
                ExitCode::Inconclusive
            }
            _ => ExitCode::CheckFailed,
        }
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conclusion::AlreadyLive { version, colour } => {
                write!(f, "{version} is live already, as {colour}: nothing to do")
            }
            Conclusion::LiveUnhealthy {
                version,
                colour,
                why,
            } => write!(
                f,
                "{version} is live already, as {colour}, and is not healthy: {why}"
            ),
            Conclusion::AtGate { version, colour } => {
                write!(f, "{version} is ready as {colour} and waits at the gate")
            }
            Conclusion::Released { version, colour } => {
                write!(f, "{version} is live, as {colour}")
            }
            Conclusion::RolledBack { why, .. } => {
                write!(f, "rolled back before any traffic: {why}")
            }
            Conclusion::Reverted { why, .. } => {
                write!(f, "rolled back, traffic is on the old colour again: {why}")
            }
        }
    }
}

/// The conclusion of a release of one or more services.
#[derive(Debug)]
pub struct GroupConclusion {
    /// The services in their order, each with its conclusion.
    pub each: Vec<(String, Result<Conclusion, BlueGreenError>)>,
    /// The service that failed first. Because of it, all were rolled back, or none began.
    pub failed: Option<String>,
}
