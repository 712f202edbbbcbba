//! The errors of a step of a release.

use super::error::BlueGreenError;
use super::group::MemberFailure;
use super::lock::LeaseError;
use kubernetes::ClusterError;

/// The error of a step.
#[derive(Debug)]
pub enum StepError {
    /// The release is rolled back.
    RollBack(Reason),
    /// The release stays where it is.
    Leave(BlueGreenError),
}

/// Why a release is rolled back.
#[derive(Clone, Debug)]
pub enum Reason {
    /// A check failed.
    Failed(String),
    /// There is no evidence that the version is good.
    Inconclusive(String),
    /// The caller cancelled the release.
    Cancelled,
}

impl Reason {
    pub fn text(&self) -> &str {
        match self {
            Reason::Failed(text) | Reason::Inconclusive(text) => text,
            Reason::Cancelled => "it was cancelled",
        }
    }
}

impl StepError {
    pub fn failed(what: impl Into<String>) -> StepError {
        StepError::RollBack(Reason::Failed(what.into()))
    }

    /// For a step that cannot be rolled back: `error` makes an error of the reason.
    pub fn or(self, error: impl FnOnce(&str) -> BlueGreenError) -> BlueGreenError {
        match self {
            StepError::RollBack(reason) => error(reason.text()),
            StepError::Leave(error) => error,
        }
    }
}

impl From<BlueGreenError> for StepError {
    fn from(error: BlueGreenError) -> StepError {
        match error {
            // Traffic goes to both colours, and must return to the old one.
            BlueGreenError::NoLiveColour { .. } => StepError::failed(error.to_string()),
            error => StepError::Leave(error),
        }
    }
}

impl From<ClusterError> for StepError {
    fn from(error: ClusterError) -> StepError {
        StepError::Leave(error.into())
    }
}

impl From<LeaseError> for StepError {
    fn from(error: LeaseError) -> StepError {
        StepError::Leave(error.into())
    }
}

impl From<MemberFailure> for StepError {
    fn from(failure: MemberFailure) -> StepError {
        StepError::failed(failure.text())
    }
}
