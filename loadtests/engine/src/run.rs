//! A load run, whichever engine makes it.

use std::path::PathBuf;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::raw_log::{RawLogError, Written};
use crate::result::{Fingerprint, LoadResult};

/// What a run is part of.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// The run's id.
    pub run: String,
    /// What results must share to be compared; the versions are those that answer.
    pub fingerprint: Fingerprint,
    /// When the first arrival is due, where that is agreed on with others; none is at once.
    pub begin: Option<Timestamp>,
    /// Cancelled, it ends the run: nothing is due any more at once, and what is in flight is
    /// given some time to drain.
    pub stop: CancellationToken,
    /// Where to write the [raw log](crate::raw_log), if anywhere.
    pub raw_log: Option<PathBuf>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Run {
    /// What was measured.
    pub result: LoadResult,
    /// How the raw log fared, where there is one. A disk that is full ends the log, and not
    /// the run; the log has then no trailer, and reads as truncated.
    pub raw_log: Option<Result<Written, RawLogError>>,
}
