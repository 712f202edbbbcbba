//! A run's raw log: every request, in 24 bytes.
//!
//! All numbers are little-endian. The file is, one after the other:
//!
//! | part | bytes | what |
//! |---|---|---|
//! | magic | 8 | `TRIILOAD` |
//! | version | 2 | 1 |
//! | begun | 8 | microseconds since the Unix epoch, signed |
//! | names | 2 | how many follow |
//! | each name | 2 + n | its length, and so many bytes of UTF-8 |
//! | records | 24 each | in the order in which each worker's ended |
//! | trailer | 24 | see below |
//!
//! A record is:
//!
//! | field | bytes | what |
//! |---|---|---|
//! | intended | 8 | when it was due, in microseconds after `begun` |
//! | lag | 4 | how much later it was set about, in microseconds |
//! | took | 4 | from then to its end, in microseconds |
//! | received | 4 | bytes of the answer's body |
//! | name | 2 | the number of its name, from 0 |
//! | outcome | 2 | a status below 1000, or what became of it instead ([`Outcome`]); 0x8000 is added to a status that was no good answer |
//!
//! What does not fit a field is the field's highest value. The trailer is told from a record by
//! its first 8 bytes, which are all ones; then come the number of records (8), how many are
//! missing because the disk did not keep up (4), and the CRC-32 (ISO 3309) of everything
//! before (4). A file without it was not finished: it reads as truncated, never as whole.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

mod reader;
mod record;
mod writer;

pub use reader::Reader;
pub use record::{Outcome, Record};
pub use writer::{Sink, Writer, Written};

const MAGIC: &[u8; 8] = b"TRIILOAD";
const VERSION: u16 = 1;

/// Of a record, and of the trailer, in bytes.
pub const RECORD: usize = 24;
/// What no record's intended time is.
const ENDS: u64 = u64::MAX;

/// A raw log that cannot be written or read.
#[derive(Debug, Error, Diagnostic)]
pub enum RawLogError {
    /// The system's word: a disk that is full, a file that is not there.
    #[error("cannot {verb} the raw log {}: {source}", path.display())]
    #[diagnostic(code(loadtests::raw_log::file), help("{}", help(source)))]
    File {
        /// What was tried: `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not one of ours.
    #[error("{} is no raw log of a load run", path.display())]
    #[diagnostic(
        code(loadtests::raw_log::other),
        help("a raw log is written by a load run, beside its result")
    )]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// Of a version that this program does not know.
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
    /// Cut off.
    #[error("{} is truncated after {records} records: it has no trailer", path.display())]
    #[diagnostic(
        code(loadtests::raw_log::truncated),
        help("its run was killed, or the disk was full; the records before are as they were")
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Whole ones that are there.
        records: u64,
    },
    /// Not what was written.
    #[error("{} is damaged: {why}", path.display())]
    #[diagnostic(
        code(loadtests::raw_log::damaged),
        help("it was changed after it was written: nothing in it can be relied on")
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What shows it.
        why: String,
    },
}

fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or write it to another disk: 24 bytes a request"
        }
        _ => "is the folder there, and may this user write it?",
    }
}

#[cfg(test)]
mod tests;
