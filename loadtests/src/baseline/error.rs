//! Why a baseline cannot be used.

use std::path::{Path, PathBuf};

use harness::exit::ExitCode;
use miette::Diagnostic;
use thiserror::Error;

/// A baseline cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum BaselineError {
    /// Nothing was stored under that name.
    #[error("there is no baseline {}", path.display())]
    #[diagnostic(help(
        "check the name against the files beside it, or store runs of the version that is known to be good: at least {} are needed",
        crate::regression::FEWEST_RUNS
    ))]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The file ends too early.
    #[error("the baseline {} is cut off: it ends within a value", path.display())]
    #[diagnostic(help(
        "take it back from version control (`git checkout -- {}`), or delete it and store runs anew",
        path.display()
    ))]
    CutOff {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is no baseline: {why}", path.display())]
    #[diagnostic(help(
        "a baseline is {{\"schema\": {}, \"runs\": [..]}}; check the path, or take the file back from version control",
        super::SCHEMA
    ))]
    NotOne {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another version of this program wrote it.
    #[error("the baseline {} is of schema {found}, and schema {known} is understood", path.display())]
    #[diagnostic(help("{}", other_schema(path, *found, *known)))]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its schema, or that of a run in it.
        found: u32,
        /// The one that is understood.
        known: u32,
    },
    /// A run that nothing can be held against, or not with those stored.
    #[error("run {run} cannot be added to the baseline {}: {why}", path.display())]
    #[diagnostic(help(
        "a baseline holds whole runs of one target, profile, plan and machine: repeat the run, or store it under another name"
    ))]
    Unfit {
        /// The run.
        run: String,
        /// The file.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// A file cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    #[diagnostic(help(
        "free space or make the folder writable (`df -h` and `ls -ld` on it tell); where another process holds the lock, wait for it"
    ))]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

fn other_schema(path: &Path, found: u32, known: u32) -> String {
    match found < known {
        true => format!(
            "its runs were measured in an older form that cannot be compared: delete {} and \
             store runs of the version that is known to be good anew",
            path.display()
        ),
        false => "a newer version of this program wrote it: update your checkout".into(),
    }
}

impl BaselineError {
    /// What a command ends with: what is no baseline is bad input; a run that fits none is no
    /// evidence.
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
