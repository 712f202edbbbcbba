//! Errors of baselines.

use std::path::{Path, PathBuf};

use base::exit::ExitCode;
use miette::Diagnostic;
use thiserror::Error;

/// A baseline cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum BaselineError {
    /// There is no such baseline.
    #[error("there is no baseline {}", path.display())]
    #[diagnostic(help(
        "check the name, or store runs of the version that is known to be good: at least {} are needed",
        crate::regression::FEWEST_RUNS
    ))]
    Missing {
        /// The expected path.
        path: PathBuf,
    },
    /// The file is truncated.
    #[error("the baseline {} is truncated: it ends within a value", path.display())]
    #[diagnostic(help(
        "restore it from version control (`git checkout -- {}`), or delete it and store new runs",
        path.display()
    ))]
    CutOff {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a baseline.
    #[error("{} is not a baseline: {why}", path.display())]
    #[diagnostic(help(
        "a baseline is {{\"schema\": {}, \"runs\": [..]}}; check the path, or restore the file from version control",
        super::SCHEMA
    ))]
    NotOne {
        /// The file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// Another version of this program wrote it.
    #[error("the baseline {} has schema {found}; this version reads schema {known}", path.display())]
    #[diagnostic(help("{}", other_schema(path, *found, *known)))]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its schema, or that of a run in it.
        found: u32,
        /// The schema that this version reads.
        known: u32,
    },
    /// The run cannot be compared with others, or not with the stored ones.
    #[error("run {run} cannot be added to the baseline {}: {why}", path.display())]
    #[diagnostic(help(
        "a baseline holds whole runs of one target, profile, plan and machine: repeat the run, or store it under another name"
    ))]
    Unfit {
        /// The run.
        run: String,
        /// The file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// A file cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    #[diagnostic(help(
        "free space or make the folder writable (see `df -h` and `ls -ld`); if another process holds the lock, wait for it"
    ))]
    File {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

fn other_schema(path: &Path, found: u32, known: u32) -> String {
    match found < known {
        true => format!(
            "its runs have an older form that cannot be compared: delete {} and store new runs of \
             the version that is known to be good",
            path.display()
        ),
        false => "a newer version of this program wrote it: update your checkout".into(),
    }
}

impl BaselineError {
    /// Returns the exit code: an invalid baseline is bad usage; an unfit run is no evidence.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            BaselineError::Missing { .. }
            | BaselineError::CutOff { .. }
            | BaselineError::NotOne { .. }
            | BaselineError::OtherSchema { .. } => ExitCode::Usage,
            BaselineError::Unfit { .. } => ExitCode::Inconclusive,
            BaselineError::File { .. } => ExitCode::NoEnvironment,
        }
    }

    pub(super) fn file(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        BaselineError::File {
            what,
            path: path.into(),
            source,
        }
    }

    pub(super) fn not_one(path: &Path, why: impl ToString) -> Self {
        BaselineError::NotOne {
            path: path.into(),
            why: why.to_string(),
        }
    }
}
