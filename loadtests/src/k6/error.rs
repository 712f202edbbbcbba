//! Why an output file is not there.

use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::raw_log::RawLogError;

/// An output file could not be written. Under its name is what was there before, or nothing.
#[derive(Debug, Error, Diagnostic)]
pub enum OutputError {
    /// The disk, or what may be used of it, is full.
    #[error("no space is left for {}", path.display())]
    #[diagnostic(help(
        "free some (`df -h` on its folder tells how much there is), let it end in .gz, which takes a tenth, or write it elsewhere"
    ))]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written for another reason.
    #[error("cannot write {}: {source}", path.display())]
    #[diagnostic(help("its folder must be there and writable: `ls -ld` on it tells"))]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A part of it was lost before.
    #[error("{} is not kept: a part of it could not be written", path.display())]
    #[diagnostic(help("the error before this one says why"))]
    Incomplete {
        /// The file.
        path: PathBuf,
    },
}

/// A run's stream could not be made of its raw log. Nothing is kept of it.
#[derive(Debug, Error, Diagnostic)]
pub enum NotStreamed {
    /// The log cannot be read, or is not whole.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Log(#[from] RawLogError),
    /// The log lacks requests.
    #[error("{} is not written: {missing} requests are not in the raw log", path.display())]
    #[diagnostic(help(
        "the disk did not keep up: write the run's folder to a faster one (--home)"
    ))]
    Lacks {
        /// The stream's file.
        path: PathBuf,
        /// How many.
        missing: u32,
    },
    /// The stream's own file cannot be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

impl OutputError {
    /// What the system said of `path`.
    pub(super) fn of(path: &Path, source: io::Error) -> OutputError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                OutputError::DiskFull { path }
            }
            _ => OutputError::Write { path, source },
        }
    }
}
