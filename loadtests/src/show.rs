//! Shows a stored result or raw log of a load run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use crate::outcome;
use crate::raw_log::{RawLogError, RawLogReader, RawOutcome, RawRecord};
use crate::result::{EndedRequest, EndpointCounts, LoadResult, ReadError};

/// The file cannot be shown.
#[derive(Debug, Error, Diagnostic)]
pub enum ShowError {
    /// The result cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Result(#[from] ReadError),
    /// The raw log is invalid or incomplete.
    #[error(transparent)]
    #[diagnostic(transparent)]
    RawLog(#[from] RawLogError),
}

/// The lines to show, and why they are incomplete, if so.
pub struct ShownLines {
    /// Lines for people.
    pub lines: Vec<String>,
    /// Why a raw log is truncated or damaged.
    pub incomplete: Option<ShowError>,
}

/// Reads a result or a raw log, which differ in the first byte.
///
/// # Errors
/// [`ShowError`], if nothing can be shown.
pub fn read(path: &Path) -> Result<ShownLines, ShowError> {
    let unreadable = |source| ReadError::File {
        path: path.to_owned(),
        source,
    };
    let mut first = [0; 1];
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.read(&mut first).map_err(unreadable)?;
    match &first[..length] {
        b"{" => result(path),
        _ => raw_log(path),
    }
}

fn result(path: &Path) -> Result<ShownLines, ShowError> {
    let result = LoadResult::read(path)?;
    let fingerprint = &result.fingerprint;
    let mut lines = vec![
        format!("run {}, begun {}", result.run, result.begun),
        format!(
            "profile {} on {}: {}",
            fingerprint.profile, fingerprint.target, fingerprint.plan
        ),
        format!("from {}", fingerprint.machine),
    ];
    let versions = fingerprint.versions.iter();
    lines.extend(versions.map(|(service, version)| format!("{service} {version}")));
    lines.extend(result.generator.bottleneck.clone());
    lines.extend(outcome::lines(&result));
    Ok(ShownLines {
        lines,
        incomplete: None,
    })
}

fn raw_log(path: &Path) -> Result<ShownLines, ShowError> {
    let mut reader = RawLogReader::open(path)?;
    let begun = reader.begun();
    let names = reader.names().to_vec();
    let mut counted: BTreeMap<u16, EndpointCounts> = BTreeMap::new();
    let mut incomplete = None;
    for record in reader.by_ref() {
        match record {
            Ok(record) => count(counted.entry(record.name).or_default(), &record),
            Err(error) => incomplete = Some(error.into()),
        }
    }
    let mut lines = vec![format!("raw log of a run begun {begun}")];
    lines.extend(counted.into_iter().filter_map(|(name, counts)| {
        let line = outcome::line(&counts.endpoint()?.whole());
        Some(format!("  {}: {line}", names[usize::from(name)]))
    }));
    if let Some(missing @ 1..) = reader.missing() {
        lines.push(format!(
            "{missing} more are missing: the disk did not keep up"
        ));
    }
    Ok(ShownLines { lines, incomplete })
}

/// Counts a record. All are in one block.
fn count(counts: &mut EndpointCounts, record: &RawRecord) {
    if record.outcome == RawOutcome::Dropped {
        return counts.dropped(0);
    }
    let [lag, took] = [record.lag, record.took].map(|time| Duration::from_micros(time.into()));
    let good = matches!(record.outcome, RawOutcome::Status { good: true, .. });
    counts.ended(EndedRequest {
        block: 0,
        arrives: !record.follows,
        latency: lag + took,
        service_time: took,
        status: None,
        received: record.received.into(),
        failure: (!good).then_some("failed"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for (text, message) in [
            ("", "truncated after 0 records"),
            ("nonsense", "not a raw log"),
            ("{}", "missing field `schema`"),
            (r#"{"schema": 0}"#, "of schema 0; this version reads 1"),
            (r#"{"schema": 1, "run": "cut o"#, "EOF"),
        ] {
            let path = folder.path().join("load-smoke.json");
            std::fs::write(&path, text).unwrap();
            let error = read(&path).err().unwrap().to_string();
            assert!(error.contains(message), "{text}: {error}");
            assert!(error.contains("load-smoke.json"), "{error}");
        }
        let error = read(&folder.path().join("nowhere.json")).err().unwrap();
        assert!(error.to_string().contains("nowhere.json"));
    }
}
