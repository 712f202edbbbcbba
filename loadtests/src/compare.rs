//! Compares stored results.

use std::fs;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::baseline::{Baseline, BaselineError};
use crate::regression::{Comparison, Settings, compare_pairs};
use crate::result::{LoadResult, ReadError};

/// Results cannot be compared.
#[derive(Debug, Error, Diagnostic)]
pub enum CompareError {
    /// A result cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Result(#[from] ReadError),
    /// A baseline cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Baseline(#[from] BaselineError),
    /// The folder cannot be read.
    #[error("cannot read the folder {}: {source}", path.display())]
    #[diagnostic(help("see its permissions with `ls -ld`"))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// There are no results in the folder.
    #[error("there is no load result in {}", path.display())]
    #[diagnostic(help(
        "a side is a file `load-PROFILE.json` from a run's folder, or a folder with such files, in itself or its subfolders"
    ))]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The runs do not form pairs.
    #[error("A has {a} runs and B has {b}: they do not form pairs")]
    #[diagnostic(help(
        "give as many on both sides, made in turn; or several runs as A, as a baseline, and one as B"
    ))]
    Uneven {
        /// How many runs A has.
        a: usize,
        /// How many B has.
        b: usize,
    },
}

/// Side A of a comparison.
enum Reference {
    Runs(Vec<LoadResult>),
    Stored(Baseline),
}

/// Compares B with A: the same number of runs of each, as pairs in chronological order; or one run
/// of B with several runs or with a baseline.
///
/// # Errors
/// [`CompareError`].
pub fn compare(a: &Path, b: &Path, settings: &Settings) -> Result<Comparison, CompareError> {
    let (a, b) = (reference(a)?, runs(b)?);
    let uneven = |a: &[LoadResult]| CompareError::Uneven {
        a: a.len(),
        b: b.len(),
    };
    match (a, &b[..]) {
        (Reference::Stored(baseline), [run]) => Ok(baseline.compare(run, settings)),
        (Reference::Runs(a), b) if a.len() == b.len() => {
            let pairs: Vec<_> = a.into_iter().zip(b.iter().cloned()).collect();
            Ok(compare_pairs(&pairs, settings))
        }
        (Reference::Runs(a), [run]) => {
            Ok(Baseline::of(&a, settings.warm_up_blocks).compare(run, settings))
        }
        (Reference::Runs(a), _) => Err(uneven(&a)),
        (Reference::Stored(baseline), _) => Err(uneven(&baseline.runs)),
    }
}

/// Reads a result, a folder of results, or a baseline.
fn reference(path: &Path) -> Result<Reference, CompareError> {
    let unread = match runs(path) {
        Err(CompareError::Result(unread)) => unread,
        runs => return runs.map(Reference::Runs),
    };
    match (unread, Baseline::read(path)) {
        (_, Ok(baseline)) => Ok(Reference::Stored(baseline)),
        (ReadError::NotOne { .. }, Err(old @ BaselineError::OtherSchema { .. })) => Err(old.into()),
        (unread, Err(_)) => Err(unread.into()),
    }
}

/// Reads a result, or a folder of results.
fn runs(path: &Path) -> Result<Vec<LoadResult>, CompareError> {
    match path.is_dir() {
        true => folder(path),
        false => Ok(vec![LoadResult::read(path)?]),
    }
}

/// Reads the results in a folder and its subfolders, the oldest first.
fn folder(path: &Path) -> Result<Vec<LoadResult>, CompareError> {
    let mut files = Vec::new();
    for entry in entries(path)? {
        match entry.is_dir() {
            true => files.extend(entries(&entry)?),
            false => files.push(entry),
        }
    }
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("load-") && name.ends_with(".json")
    });
    files.sort();
    let results = files.iter().map(|file| LoadResult::read(file));
    let mut results = results.collect::<Result<Vec<LoadResult>, ReadError>>()?;
    results.sort_by_key(|result| result.begun);
    match results.is_empty() {
        true => Err(CompareError::Empty { path: path.into() }),
        false => Ok(results),
    }
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, CompareError> {
    let read = || fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect();
    let read: std::io::Result<Vec<PathBuf>> = read();
    read.map_err(|source| CompareError::Folder {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests;
