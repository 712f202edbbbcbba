//! The files that a load run leaves.

use std::path::{Path, PathBuf};

use harness::run::event::Failure;
use loadtests::k6::{Logged, NotStreamed, Summary};
use loadtests::raw_log::RawLogError;
use loadtests::run::Run;
use loadtests::threshold::Verdict;

use super::load::Order;

/// The files that a load run leaves.
pub struct Files<'a> {
    /// `load-PROFILE.json`
    pub result: PathBuf,
    /// `load-PROFILE.log`
    pub raw_log: PathBuf,
    summary_export: Option<&'a Path>,
    out: Option<(&'a Path, Logged<'a>)>,
}

impl<'a> Files<'a> {
    /// Begins what is written elsewhere than in the run's folder: that it cannot be is to be
    /// known before the load.
    pub fn begin(order: &Order<'a>, run: &harness::run::Run) -> Result<Files<'a>, Failure> {
        let begin = |path: &'a Path| {
            let traffic = &order.profile.traffic;
            let logged = Logged::begin(path, order.name, traffic, order.thresholds);
            logged.map(|logged| (path, logged))
        };
        let begun = order.out.map(begin).transpose();
        Ok(Files {
            result: order.file(run, "json"),
            raw_log: order.file(run, "log"),
            summary_export: order.summary_export,
            out: begun.map_err(|error| unwritten(&error, order.out.unwrap_or(run.folder())))?,
        })
    }

    /// Writes the result, and k6's summary. What could not be written, the raw log among it.
    pub fn write(&self, run: &Run, verdicts: &[Verdict]) -> Vec<Failure> {
        let Run { result, raw_log } = run;
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

    /// Writes k6's stream, of the raw log, where it is wanted. Dropped before its end, it leaves
    /// none.
    pub async fn stream(self) -> Result<(), Failure> {
        let Some((path, logged)) = self.out else {
            return Ok(());
        };
        let written = logged.write(&self.raw_log).await;
        written.map_err(|error: NotStreamed| unwritten(&error, path))
    }
}

fn unwritten(error: &(dyn std::error::Error + 'static), file: &Path) -> Failure {
    Failure {
        what: error.to_string(),
        expected: "all that was measured, whole".into(),
        seen: harness::chain(error),
        look_at: file.display().to_string(),
        next: "df -h".into(),
    }
}
