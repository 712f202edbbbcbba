//! The files that a load run writes.

use std::path::{Path, PathBuf};

use base::run::event::Failure;
use loadtests::k6::{StreamError, StreamFromLog, Summary};
use loadtests::raw_log::RawLogError;
use loadtests::run::LoadRun;
use loadtests::threshold::ThresholdResult;

use super::order::LoadOrder;

pub struct Files<'a> {
    /// `load-PROFILE.json`
    pub result: PathBuf,
    /// `load-PROFILE.log`
    pub raw_log: PathBuf,
    summary_export: Option<&'a Path>,
    out: Option<(&'a Path, StreamFromLog<'a>)>,
}

impl<'a> Files<'a> {
    /// Opens the file outside the run's folder, so that one that cannot be written is reported
    /// before the load.
    pub fn begin(order: &LoadOrder<'a>, run: &base::run::Run) -> Result<Files<'a>, Failure> {
        let begin = |path: &'a Path| {
            let traffic = &order.profile.traffic;
            let stream = StreamFromLog::begin(path, order.name, traffic, order.thresholds);
            stream
                .map(|stream| (path, stream))
                .map_err(|error| unwritten(&error, path))
        };
        Ok(Files {
            result: order.file(run, "json"),
            raw_log: order.file(run, "log"),
            summary_export: order.summary_export,
            out: order.out.map(begin).transpose()?,
        })
    }

    /// Writes the result and k6's summary. Returns a failure for each file that could not be
    /// written, including the raw log.
    pub fn write(&self, run: &LoadRun, verdicts: &[ThresholdResult]) -> Vec<Failure> {
        let LoadRun { result, raw_log } = run;
        let written = result.write(&self.result);
        let summary = self.summary_export.map(|file| {
            let written = Summary::of(result, verdicts).write_export(file);
            written.map_err(|error| unwritten(&error, file))
        });
        let log = raw_log.as_ref().and_then(|log| log.as_ref().err());
        [
            written.err().map(|error| unwritten(&error, &self.result)),
            summary.and_then(Result::err),
            log.map(|error: &RawLogError| unwritten(error, &self.raw_log)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Writes k6's stream from the raw log, if it is requested. If this future is dropped, no file
    /// is left.
    pub async fn stream(self) -> Result<(), Failure> {
        let Some((path, stream)) = self.out else {
            return Ok(());
        };
        let written = stream.write(&self.raw_log).await;
        written.map_err(|error: StreamError| unwritten(&error, path))
    }
}

fn unwritten(error: &(dyn std::error::Error + 'static), file: &Path) -> Failure {
    Failure {
        what: error.to_string(),
        expected: "complete results".into(),
        seen: base::chain(error),
        look_at: file.display().to_string(),
        next: "df -h".into(),
    }
}
