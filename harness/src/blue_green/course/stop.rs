//! Why a step of a release does not lead to the next one.

use crate::blue_green::error::BlueGreenError;
use crate::blue_green::lock::LockError;
use crate::cluster::ClusterError;

/// Why a step does not lead to the next one.
#[derive(Debug)]
pub enum Stop {
    /// The release is taken back.
    TakeBack(Why),
    /// It is left where it is.
    Leave(BlueGreenError),
}

/// Why a release is taken back.
#[derive(Clone, Debug)]
pub enum Why {
    /// Something does not hold.
    Failed(String),
    /// Nobody can tell whether it holds.
    Inconclusive(String),
    /// Whoever asked for it calls it off.
    CalledOff,
}

impl Why {
    pub fn text(&self) -> &str {
        match self {
            Why::Failed(text) | Why::Inconclusive(text) => text,
            Why::CalledOff => "it was called off",
        }
    }
}

impl Stop {
    /// Something does not hold.
    pub fn failed(what: impl Into<String>) -> Stop {
        Stop::TakeBack(Why::Failed(what.into()))
    }

    /// Where there is nothing to take back: `error` says what does not hold.
    pub fn or(self, error: impl FnOnce(&str) -> BlueGreenError) -> BlueGreenError {
        match self {
            Stop::TakeBack(why) => error(why.text()),
            Stop::Leave(error) => error,
        }
    }
}

impl From<BlueGreenError> for Stop {
    fn from(error: BlueGreenError) -> Stop {
        match error {
            // Traffic goes to both colours; back to the old one alone.
            BlueGreenError::NoLiveColour { .. } => Stop::failed(error.to_string()),
            error => Stop::Leave(error),
        }
    }
}

impl From<ClusterError> for Stop {
    fn from(error: ClusterError) -> Stop {
        Stop::Leave(error.into())
    }
}

impl From<LockError> for Stop {
    fn from(error: LockError) -> Stop {
        Stop::Leave(error.into())
    }
}
