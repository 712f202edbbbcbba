//! One record, and its bytes.

use crc32fast::Hasher;

use super::{ENDS, RECORD};

/// The offset of the checksum in the trailer. It covers all bytes before.
pub const CHECKSUM: usize = 20;

/// The result of one request. Times are microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// When it was due, after the run's start.
    pub intended: u64,
    /// How much later it started.
    pub lag: u32,
    /// From its start to its end.
    pub took: u32,
    /// Bytes of the answer's body.
    pub received: u32,
    /// The number of its name.
    pub name: u16,
    /// Whether it follows another request of its arrival.
    pub follows: bool,
    /// How it ended.
    pub outcome: RawOutcome,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawOutcome {
    /// A complete response.
    Status {
        /// Its status, 0 to 999.
        status: u16,
        /// Whether it was good.
        good: bool,
    },
    /// 1000: nothing listens.
    Refused,
    /// 1001: the connection ended before the response was complete.
    Reset,
    /// 1002: no complete response in time.
    TimedOut,
    /// 1003: no route to the server.
    Unreachable,
    /// 1004: the TLS handshake failed.
    Tls,
    /// 1005: the response is not HTTP.
    Protocol,
    /// 1006: in flight when an interrupted run's time to drain was over.
    Unanswered,
    /// 1007: not sent.
    Dropped,
}

const NOT_GOOD: u16 = 0x8000;
/// Beside the outcome, whose codes are below it but for [`NOT_GOOD`].
const FOLLOWS: u16 = 0x4000;

impl RawOutcome {
    fn code(self) -> u16 {
        match self {
            RawOutcome::Status { status, good: true } => status.min(999),
            RawOutcome::Status { status, .. } => status.min(999) | NOT_GOOD,
            RawOutcome::Refused => 1000,
            RawOutcome::Reset => 1001,
            RawOutcome::TimedOut => 1002,
            RawOutcome::Unreachable => 1003,
            RawOutcome::Tls => 1004,
            RawOutcome::Protocol => 1005,
            RawOutcome::Unanswered => 1006,
            RawOutcome::Dropped => 1007,
        }
    }

    fn of(code: u16) -> Option<RawOutcome> {
        let status = code & !NOT_GOOD;
        if status < 1000 {
            let good = code == status;
            return Some(RawOutcome::Status { status, good });
        }
        let others = [
            RawOutcome::Refused,
            RawOutcome::Reset,
            RawOutcome::TimedOut,
            RawOutcome::Unreachable,
            RawOutcome::Tls,
            RawOutcome::Protocol,
            RawOutcome::Unanswered,
            RawOutcome::Dropped,
        ];
        others.into_iter().find(|other| other.code() == code)
    }
}

impl RawRecord {
    pub(super) fn bytes(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        // All ones marks the trailer.
        bytes[0..8].copy_from_slice(&self.intended.min(ENDS - 1).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.lag.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.took.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.received.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.name.to_le_bytes());
        let follows = if self.follows { FOLLOWS } else { 0 };
        bytes[22..24].copy_from_slice(&(self.outcome.code() | follows).to_le_bytes());
        bytes
    }

    /// Parses a record. None if the outcome is invalid.
    pub(super) fn of(bytes: &[u8; RECORD]) -> Option<RawRecord> {
        let code = u16::from_le_bytes(part(bytes, 22));
        Some(RawRecord {
            intended: u64::from_le_bytes(part(bytes, 0)),
            lag: u32::from_le_bytes(part(bytes, 8)),
            took: u32::from_le_bytes(part(bytes, 12)),
            received: u32::from_le_bytes(part(bytes, 16)),
            name: u16::from_le_bytes(part(bytes, 20)),
            follows: code & FOLLOWS != 0,
            outcome: RawOutcome::of(code & !FOLLOWS)?,
        })
    }
}

/// The end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub records: u64,
    pub missing: u32,
    pub checksum: u32,
}

impl Trailer {
    /// Returns a trailer's bytes. `checksum` covers everything before the trailer.
    pub fn bytes(records: u64, missing: u32, mut checksum: Hasher) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[0..8].copy_from_slice(&ENDS.to_le_bytes());
        bytes[8..16].copy_from_slice(&records.to_le_bytes());
        bytes[16..CHECKSUM].copy_from_slice(&missing.to_le_bytes());
        checksum.update(&bytes[..CHECKSUM]);
        bytes[CHECKSUM..].copy_from_slice(&checksum.finalize().to_le_bytes());
        bytes
    }

    /// Parses a trailer. None if the bytes are a record.
    pub fn of(bytes: &[u8; RECORD]) -> Option<Trailer> {
        let is_trailer = u64::from_le_bytes(part(bytes, 0)) == ENDS;
        is_trailer.then(|| Trailer {
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
