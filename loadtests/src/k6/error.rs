//! Errors of output files.

use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::raw_log::RawLogError;

/// An output file could not be written. A previous file of that name is unchanged.
#[derive(Debug, Error, Diagnostic)]
pub enum OutputError {
    /// The disk or a quota is full.
    #[error("no space is left for {}", path.display())]
    #[diagnostic(help(
        "free some space (see `df -h`), let its name end in .gz, which takes a tenth, or write it elsewhere"
    ))]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written for another reason.
    #[error("cannot write {}: {source}", path.display())]
    #[diagnostic(help("its folder must exist and be writable: see `ls -ld`"))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A part of the file could not be written before.
    #[error("{} is not kept: a part of it could not be written", path.display())]
    #[diagnostic(help("see the error before this one"))]
    Incomplete {
        /// The file.
        path: PathBuf,
    },
}

/// The stream could not be written from the raw log. No file remains.
#[derive(Debug, Error, Diagnostic)]
pub enum StreamError {
    /// The raw log cannot be read, or is incomplete.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Log(#[from] RawLogError),
    /// Requests are missing in the raw log.
    #[error("{} is not written: {missing} requests are not in the raw log", path.display())]
    #[diagnostic(help(
        "the disk did not keep up: write the run's folder to a faster one (--home)"
    ))]
    Lacks {
        /// The stream's file.
        path: PathBuf,
        /// The number of missing requests.
        missing: u32,
    },
    /// The stream's file cannot be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

impl OutputError {
    /// Returns the error for `path`.
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
