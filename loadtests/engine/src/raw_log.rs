//! A run's raw log: every request, in 24 bytes.
//!
//! All numbers are little-endian. The file consists of:
//!
//! | part | bytes | what |
//! |---|---|---|
//! | magic | 8 | `TRIILOAD` |
//! | version | 2 | 1 |
//! | begun | 8 | microseconds since the Unix epoch, signed |
//! | names | 2 | how many names follow |
//! | each name | 2 + n | its length, and as many bytes of UTF-8 |
//! | records | 24 each | of each worker in the order in which they ended |
//! | trailer | 24 | see below |
//!
//! A record is:
//!
//! | field | bytes | what |
//! |---|---|---|
//! | intended | 8 | when it was due, in microseconds after `begun` |
//! | lag | 4 | how much later it was started, in microseconds |
//! | took | 4 | from then to its end, in microseconds |
//! | received | 4 | bytes of the answer's body |
//! | name | 2 | the number of its name, from 0 |
//! | outcome | 2 | a status below 1000, or another outcome ([`RawOutcome`]); 0x8000 is added to a status that is not good, 0x4000 if it follows another request of its arrival |
//!
//! A value that does not fit its field is stored as the field's highest value. The first 8 bytes
//! of the trailer are all ones, which no record has. Then follow the number of records (8), how
//! many are missing because the disk did not keep up (4), and the CRC-32 (ISO 3309) of everything
//! before (4). A file without a trailer was not finished, and reads as truncated.

use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

mod reader;
mod record;
mod writer;

pub use reader::RawLogReader;
pub use record::{RawOutcome, RawRecord};
pub use writer::{RawLogSummary, RawLogWriter, Sink};

const MAGIC: &[u8; 8] = b"TRIILOAD";
const VERSION: u16 = 1;

/// The size of a record, and of the trailer, in bytes.
pub const RECORD: usize = 24;
/// Marks the trailer: no record has this intended time.
const ENDS: u64 = u64::MAX;

/// A raw log that cannot be written or read.
#[derive(Debug, Error, Diagnostic)]
pub enum RawLogError {
    /// The file cannot be written or read.
    #[error("cannot {verb} the raw log {}: {source}", path.display())]
    #[diagnostic(code(loadtests::raw_log::file), help("{}", help(source)))]
    File {
        /// The operation, such as `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Not a raw log.
    #[error("{} is not a raw log of a load run", path.display())]
    #[diagnostic(
        code(loadtests::raw_log::other),
        help("a raw log is written by a load run, beside its result")
    )]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// An unknown version.
    #[error("{} is a raw log of version {found}; this reads version {VERSION}", path.display())]
    #[diagnostic(
        code(loadtests::raw_log::version),
        help("read it with the program that wrote it")
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// It has no trailer.
    #[error("{} is truncated after {records} records: it has no trailer", path.display())]
    #[diagnostic(
        code(loadtests::raw_log::truncated),
        help("its run was killed, or the disk was full; the records before are intact")
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The complete records.
        records: u64,
    },
    /// It was changed after it was written.
    #[error("{} is damaged: {why}", path.display())]
    #[diagnostic(
        code(loadtests::raw_log::damaged),
        help("it was changed after it was written: do not rely on anything in it")
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first difference.
        why: String,
    },
}

fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space, or write it to another disk: it takes 24 bytes a request"
        }
        _ => "does the folder exist, and may this user write to it?",
    }
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RawLogError {
    let path = path.to_owned();
    move |source| RawLogError::File { verb, path, source }
}

#[cfg(test)]
mod tests;
