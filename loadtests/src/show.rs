//! Shows a stored result or raw log of a load run, for people or in the formats of other tools.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use base::run::load::LoadMeasurement;
use miette::Diagnostic;
use thiserror::Error;

use crate::k6::Summary;
use crate::measurement;
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

/// A format of another tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowFormat {
    /// The text that k6 prints at the end of a run.
    K6,
    /// OpenMetrics, which is also Prometheus' text format: as in `metrics.txt` of a run.
    Prometheus,
}

/// Reads a result, and returns its lines in the format of another tool.
///
/// # Errors
/// If it cannot be read, or is a raw log.
pub fn formatted(path: &Path, format: ShowFormat) -> Result<Vec<String>, ReadError> {
    let result = LoadResult::read(path)?;
    Ok(match format {
        ShowFormat::K6 => Summary::of(&result, &[]).text(),
        ShowFormat::Prometheus => {
            let measured = LoadMeasurement {
                of: result.fingerprint.profile.clone(),
                ..measurement::of(&result, Vec::new(), &[])
            };
            let text = report::load_metrics(&result.fingerprint.target, &measured);
            text.lines().map(str::to_owned).collect()
        }
    })
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
    use crate::regression::simulated_result;
    use crate::result::{Block, Endpoint};

    #[test]
    fn a_result_is_shown_in_the_formats_of_other_tools() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("load-steady.json");
        let block = Block {
            requests: 10,
            arrivals: 10,
            failed: 1,
            dropped: 2,
            received: 4_000,
            latency: (1..=10).map(|n| 1_250 * n).collect(),
        };
        let quotes = Endpoint {
            blocks: BTreeMap::from([(0, block)]),
            failures: BTreeMap::from([("check: a price".to_owned(), 1)]),
            ..Endpoint::default()
        };
        let mut result = simulated_result();
        result.fingerprint.target = "kind".into();
        result.fingerprint.profile = "steady".into();
        result.generator.lag = [20, 40].into_iter().collect();
        result.endpoints = BTreeMap::from([("GET /quotes".to_owned(), quotes)]);
        result.write(&path).unwrap();
        for (name, format) in [
            ("k6", ShowFormat::K6),
            ("prometheus", ShowFormat::Prometheus),
        ] {
            let lines = formatted(&path, format).unwrap();
            insta::assert_snapshot!(format!("shown-as-{name}"), lines.join("\n"));
        }
        std::fs::write(&path, "not JSON: a raw log").unwrap();
        let error = formatted(&path, ShowFormat::K6).unwrap_err();
        assert!(error.to_string().contains("not a load result"), "{error}");
    }

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
