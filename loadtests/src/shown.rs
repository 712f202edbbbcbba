//! What a load run left, read again: its result, or its raw log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use crate::outcome;
use crate::raw_log::{Outcome, RawLogError, Reader, Record};
use crate::result::{Counted, LoadResult, Unread};

/// What cannot be shown.
#[derive(Debug, Error, Diagnostic)]
pub enum NotShown {
    /// No result, or not to be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Result(#[from] Unread),
    /// A raw log that is none, or not whole.
    #[error(transparent)]
    #[diagnostic(transparent)]
    RawLog(#[from] RawLogError),
}

/// What is shown, and why it is not all, where it is not.
pub struct Shown {
    /// For people.
    pub lines: Vec<String>,
    /// Of a raw log that was cut off or changed.
    pub not_whole: Option<NotShown>,
}

/// Reads a result or a raw log: which of them it is, its first bytes tell.
///
/// # Errors
/// [`NotShown`], where nothing can be shown.
pub fn read(path: &Path) -> Result<Shown, NotShown> {
    let unreadable = |source| Unread::File {
        path: path.to_owned(),
        source,
    };
    let mut first = [0; 1];
    let mut file = File::open(path).map_err(unreadable)?;
    let some = file.read(&mut first).map_err(unreadable)?;
    match &first[..some] {
        b"{" => result(path),
        _ => raw_log(path),
    }
}

fn result(path: &Path) -> Result<Shown, NotShown> {
    let result = LoadResult::read(path)?;
    let mut lines = what_it_is_of(&result);
    lines.extend(outcome::lines(&result));
    Ok(Shown {
        lines,
        not_whole: None,
    })
}

fn what_it_is_of(result: &LoadResult) -> Vec<String> {
    let of = &result.fingerprint;
    let mut lines = vec![
        format!("run {}, begun {}", result.run, result.begun),
        format!("profile {} on {}: {}", of.profile, of.target, of.plan),
        format!("from {}", of.machine),
    ];
    let versions = of.versions.iter();
    lines.extend(versions.map(|(service, version)| format!("{service} {version}")));
    lines.extend(result.generator.bottleneck.clone());
    lines
}

fn raw_log(path: &Path) -> Result<Shown, NotShown> {
    let mut reader = Reader::open(path)?;
    let begun = reader.begun();
    let names = reader.names().to_vec();
    let mut counted: BTreeMap<u16, Counted> = BTreeMap::new();
    let mut not_whole = None;
    for record in reader.by_ref() {
        match record {
            Ok(record) => count(counted.entry(record.name).or_default(), &record),
            Err(error) => not_whole = Some(error.into()),
        }
    }
    let mut lines = vec![format!("raw log of a run begun {begun}")];
    lines.extend(counted.into_iter().filter_map(|(name, one)| {
        let whole = one.endpoint()?.whole();
        let unnamed = || format!("name {name}");
        let name = names.get(usize::from(name)).cloned();
        let name = name.unwrap_or_else(unnamed);
        Some(format!("  {name}: {}", outcome::line(&whole)))
    }));
    if let Some(missing @ 1..) = reader.missing() {
        lines.push(format!("{missing} more were not kept up with"));
    }
    Ok(Shown { lines, not_whole })
}

/// All in one block.
fn count(one: &mut Counted, record: &Record) {
    if record.outcome == Outcome::Dropped {
        return one.dropped(0);
    }
    let [lag, took] = [record.lag, record.took].map(|it| Duration::from_micros(it.into()));
    let good = matches!(record.outcome, Outcome::Status { good: true, .. });
    one.ended(0, (lag + took, took), record.received.into(), !good);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for (text, told) in [
            ("", "truncated after 0 records"),
            ("nonsense", "no raw log"),
            ("{}", "missing field `schema`"),
            (r#"{"schema": 0}"#, "of schema 0; this version reads 1"),
            (r#"{"schema": 1, "run": "cut o"#, "EOF"),
        ] {
            let path = folder.path().join("load-smoke.json");
            std::fs::write(&path, text).unwrap();
            let error = read(&path).err().unwrap().to_string();
            assert!(error.contains(told), "{text}: {error}");
            assert!(error.contains("load-smoke.json"), "{error}");
        }
        let error = read(&folder.path().join("nowhere.json")).err().unwrap();
        assert!(error.to_string().contains("nowhere.json"));
    }
}
