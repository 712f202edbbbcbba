//! Results that were kept, held against each other.

use std::fs;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::baseline::{Baseline, BaselineError};
use crate::regression::{Comparison, Settings, compare_pairs};
use crate::result::{LoadResult, Unread};

/// What cannot be compared, since it is not there or is none.
#[derive(Debug, Error, Diagnostic)]
pub enum NotCompared {
    /// No result, or not to be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Result(#[from] Unread),
    /// A baseline that cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Baseline(#[from] BaselineError),
    /// The folder cannot be read.
    #[error("cannot read the folder {}: {source}", path.display())]
    #[diagnostic(help("`ls -ld` on it tells who may"))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// No results are in the folder.
    #[error("no load result is in {}", path.display())]
    #[diagnostic(help(
        "a side is `load-PROFILE.json` of a run's folder, or a folder that has several, in itself or in the folders in it"
    ))]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// Runs that are no pairs.
    #[error("A has {a} runs and B has {b}: they make no pairs")]
    #[diagnostic(help(
        "as many on both sides, made in turn; or several against one, as a baseline"
    ))]
    Uneven {
        /// How many runs A has.
        a: usize,
        /// How many B has.
        b: usize,
    },
}

/// Runs that others are held against.
enum Against {
    /// As they were measured.
    Runs(Vec<LoadResult>),
    /// As a baseline keeps them.
    Stored(Baseline),
}

/// Holds B against A: as many runs of each as pairs, in the order in which they were made; one
/// run against several, or against a baseline's.
///
/// # Errors
/// [`NotCompared`], which names the file that is at fault.
pub fn compare(a: &Path, b: &Path, settings: &Settings) -> Result<Comparison, NotCompared> {
    let (a, b) = (against(a)?, runs(b)?);
    match (a, &b[..]) {
        (Against::Stored(baseline), [run]) => Ok(baseline.compare(run, settings)),
        (Against::Runs(a), b) if a.len() == b.len() => {
            let pairs: Vec<_> = a.into_iter().zip(b.iter().cloned()).collect();
            Ok(compare_pairs(&pairs, settings))
        }
        (Against::Runs(a), [run]) => {
            Ok(Baseline::of(&a, settings.warm_up_blocks).compare(run, settings))
        }
        (Against::Runs(a), b) => Err(NotCompared::uneven(&a, b)),
        (Against::Stored(baseline), b) => Err(NotCompared::uneven(&baseline.runs, b)),
    }
}

/// A result, a folder of results, or a baseline.
fn against(path: &Path) -> Result<Against, NotCompared> {
    let unread = match runs(path) {
        Err(NotCompared::Result(unread)) => unread,
        runs => return runs.map(Against::Runs),
    };
    match (unread, Baseline::read(path)) {
        (_, Ok(baseline)) => Ok(Against::Stored(baseline)),
        (Unread::NotOne { .. }, Err(old @ BaselineError::OtherSchema { .. })) => Err(old.into()),
        (unread, Err(_)) => Err(unread.into()),
    }
}

/// A result, or a folder of results.
fn runs(path: &Path) -> Result<Vec<LoadResult>, NotCompared> {
    match path.is_dir() {
        true => folder(path),
        false => Ok(vec![LoadResult::read(path)?]),
    }
}

/// The results in a folder and in the folders in it, the oldest first.
fn folder(path: &Path) -> Result<Vec<LoadResult>, NotCompared> {
    let mut files = Vec::new();
    for entry in entries(path)? {
        match entry.is_dir() {
            true => files.extend(entries(&entry)?),
            false => files.push(entry),
        }
    }
    files.retain(|file| is_result(file));
    files.sort();
    let results: Result<Vec<LoadResult>, Unread> =
        files.iter().map(|file| LoadResult::read(file)).collect();
    let mut results = results?;
    results.sort_by_key(|result| result.begun);
    match results.is_empty() {
        true => Err(NotCompared::Empty { path: path.into() }),
        false => Ok(results),
    }
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, NotCompared> {
    let read = || fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect();
    let read: std::io::Result<Vec<PathBuf>> = read();
    read.map_err(|source| NotCompared::Folder {
        path: path.into(),
        source,
    })
}

/// As a run names them.
fn is_result(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("load-") && name.ends_with(".json")
}

impl NotCompared {
    fn uneven(a: &[LoadResult], b: &[LoadResult]) -> Self {
        NotCompared::Uneven {
            a: a.len(),
            b: b.len(),
        }
    }
}

#[cfg(test)]
mod tests;
