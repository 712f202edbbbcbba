//! A load run of any engine.

use std::path::PathBuf;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::raw_log::{RawLogError, RawLogSummary};
use crate::result::{Fingerprint, LoadResult};

/// The inputs of a run, beside its plan.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// The run's id.
    pub run: String,
    /// What results must have in common to be compared. The run sets the versions.
    pub fingerprint: Fingerprint,
    /// When the first arrival is due, if several generators share that time; if none, immediately.
    pub begin: Option<Timestamp>,
    /// Stops the run: no more arrivals are due, and requests in flight have time to drain.
    pub stop: CancellationToken,
    /// Where to write the [raw log](crate::raw_log), if anywhere.
    pub raw_log: Option<PathBuf>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct LoadRun {
    /// The result.
    pub result: LoadResult,
    /// The raw log, if there is one. A full disk ends the log but not the run. The log then has no
    /// trailer, and reads as truncated.
    pub raw_log: Option<Result<RawLogSummary, RawLogError>>,
}
