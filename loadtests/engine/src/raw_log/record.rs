//! One record, and its bytes.

use crc32fast::Hasher;

use super::{ENDS, RECORD};

/// Where in the trailer its checksum is: of all bytes before.
pub const CHECKSUM: usize = 20;

/// What became of one request that was due. Times are microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was due, after the run's begin.
    pub intended: u64,
    /// How much later it was set about.
    pub lag: u32,
    /// From then to its end.
    pub took: u32,
    /// Bytes of the answer's body.
    pub received: u32,
    /// The number of its name.
    pub name: u16,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, whole.
    Status {
        /// Its status, 0 to 999.
        status: u16,
        /// Whether it was a good one.
        good: bool,
    },
    /// 1000: nothing listens.
    Refused,
    /// 1001: the connection ended before the whole answer was there.
    Reset,
    /// 1002: no whole answer in time.
    TimedOut,
    /// 1003: no way there.
    Unreachable,
    /// 1004: TLS was not agreed upon.
    Tls,
    /// 1005: what came is not HTTP.
    Protocol,
    /// 1006: in flight when an interrupted run had no more time.
    Unanswered,
    /// 1007: not sent.
    Dropped,
}

const NOT_GOOD: u16 = 0x8000;

impl Outcome {
    fn code(self) -> u16 {
        match self {
            Outcome::Status { status, good: true } => status.min(999),
            Outcome::Status { status, .. } => status.min(999) | NOT_GOOD,
            Outcome::Refused => 1000,
            Outcome::Reset => 1001,
            Outcome::TimedOut => 1002,
            Outcome::Unreachable => 1003,
            Outcome::Tls => 1004,
            Outcome::Protocol => 1005,
            Outcome::Unanswered => 1006,
            Outcome::Dropped => 1007,
        }
    }

    fn of(code: u16) -> Option<Outcome> {
        let status = code & !NOT_GOOD;
        if status < 1000 {
            let good = code == status;
            return Some(Outcome::Status { status, good });
        }
        let others = [
            Outcome::Refused,
            Outcome::Reset,
            Outcome::TimedOut,
            Outcome::Unreachable,
            Outcome::Tls,
            Outcome::Protocol,
            Outcome::Unanswered,
            Outcome::Dropped,
        ];
        others.into_iter().find(|other| other.code() == code)
    }
}

impl Record {
    pub(super) fn bytes(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        // All ones is the trailer's.
        bytes[0..8].copy_from_slice(&self.intended.min(ENDS - 1).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.lag.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.took.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.received.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.name.to_le_bytes());
        bytes[22..24].copy_from_slice(&self.outcome.code().to_le_bytes());
        bytes
    }

    /// None where its outcome is none.
    pub(super) fn of(bytes: &[u8; RECORD]) -> Option<Record> {
        Some(Record {
            intended: u64::from_le_bytes(part(bytes, 0)),
            lag: u32::from_le_bytes(part(bytes, 8)),
            took: u32::from_le_bytes(part(bytes, 12)),
            received: u32::from_le_bytes(part(bytes, 16)),
            name: u16::from_le_bytes(part(bytes, 20)),
            outcome: Outcome::of(u16::from_le_bytes(part(bytes, 22)))?,
        })
    }
}

/// What the last part of a file says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub records: u64,
    pub missing: u32,
    pub checksum: u32,
}

impl Trailer {
    /// `before` is of everything before the trailer.
    pub fn written(records: u64, missing: u32, mut before: Hasher) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[0..8].copy_from_slice(&ENDS.to_le_bytes());
        bytes[8..16].copy_from_slice(&records.to_le_bytes());
        bytes[16..CHECKSUM].copy_from_slice(&missing.to_le_bytes());
        before.update(&bytes[..CHECKSUM]);
        bytes[CHECKSUM..].copy_from_slice(&before.finalize().to_le_bytes());
        bytes
    }

    /// None where it is a record.
    pub fn of(bytes: &[u8; RECORD]) -> Option<Trailer> {
        let is_one = u64::from_le_bytes(part(bytes, 0)) == ENDS;
        is_one.then(|| Trailer {
            records: u64::from_le_bytes(part(bytes, 8)),
            missing: u32::from_le_bytes(part(bytes, 16)),
            checksum: u32::from_le_bytes(part(bytes, CHECKSUM)),
        })
    }
}

fn part<const N: usize>(bytes: &[u8; RECORD], at: usize) -> [u8; N] {
    let part = bytes[at..at + N].try_into();
    part.expect("a slice of N bytes is an array of N")
}
