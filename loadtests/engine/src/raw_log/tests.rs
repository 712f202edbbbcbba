use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::tempdir;

use super::*;

const PATH: &str = "raw.log";

fn outcomes() -> impl Strategy<Value = RawOutcome> {
    prop_oneof![
        (0u16..1000, any::<bool>()).prop_map(|(status, good)| RawOutcome::Status { status, good }),
        Just(RawOutcome::Refused),
        Just(RawOutcome::Reset),
        Just(RawOutcome::TimedOut),
        Just(RawOutcome::Unreachable),
        Just(RawOutcome::Tls),
        Just(RawOutcome::Protocol),
        Just(RawOutcome::Unanswered),
        Just(RawOutcome::Dropped),
    ]
}

fn records() -> impl Strategy<Value = Vec<RawRecord>> {
    let numbers = any::<(u32, u32, u32)>();
    let record = (0..u64::MAX, numbers, 0u16..2, any::<bool>(), outcomes());
    let record = record.prop_map(
        |(intended, (lag, took, received), name, follows, outcome)| RawRecord {
            intended,
            lag,
            took,
            received,
            name,
            follows,
            outcome,
        },
    );
    prop::collection::vec(record, 0..20)
}

fn written(records: &[RawRecord]) -> Vec<u8> {
    let folder = tempdir().unwrap();
    let path = folder.path().join(PATH);
    let names = ["GET /quotes".to_owned(), "POST /órdenes".to_owned()];
    let begun = Timestamp::from_microsecond(1_700_000_000_000_001).unwrap();
    let writer = RawLogWriter::create(&path, begun, &names).unwrap();
    let mut sink = writer.sink();
    records.iter().for_each(|record| sink.put(*record));
    drop(sink);
    let expected = RawLogSummary {
        records: records.len() as u64,
        missing: 0,
    };
    assert_eq!(writer.finish().unwrap(), expected);
    std::fs::read(path).unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<RawRecord>, RawLogError> {
    RawLogReader::of(bytes, Path::new(PATH))?.collect()
}

fn five_records() -> Vec<RawRecord> {
    let record = |number: u32| RawRecord {
        intended: u64::from(number) * 1000,
        lag: number,
        took: 20 * number,
        received: 5,
        name: 1,
        follows: false,
        outcome: RawOutcome::Status {
            status: 200,
            good: true,
        },
    };
    (0..5).map(record).collect()
}

#[test]
fn the_header_is_read_back() {
    let bytes = written(&five_records());
    let mut reader = RawLogReader::of(&bytes[..], Path::new(PATH)).unwrap();
    assert_eq!(reader.names(), ["GET /quotes", "POST /órdenes"]);
    assert_eq!(reader.begun().as_microsecond(), 1_700_000_000_000_001);
    assert_eq!(reader.missing(), None);
    assert_eq!(reader.by_ref().count(), 5);
    assert_eq!(reader.missing(), Some(0));
}

#[test]
fn a_log_that_is_cut_off_anywhere_reads_as_truncated() {
    let bytes = written(&five_records());
    let header = bytes.len() - 6 * RECORD;
    for length in 0..bytes.len() {
        let complete = length.saturating_sub(header) / RECORD;
        match read(&bytes[..length]) {
            Err(RawLogError::Truncated { records, .. }) => {
                assert_eq!(records, complete as u64, "{length}");
            }
            other => panic!("cut off at {length}, it reads as {other:?}"),
        }
    }
}

#[test]
fn every_changed_byte_is_detected() {
    let bytes = written(&five_records());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(read(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn bytes_after_the_trailer_are_refused() {
    let mut bytes = written(&five_records());
    bytes.push(0);
    assert!(matches!(read(&bytes), Err(RawLogError::Damaged { .. })));
}

#[test]
fn another_version_is_named() {
    let mut bytes = written(&[]);
    bytes[8] = 9;
    let error = read(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "raw.log is a raw log of version 9; this reads version 1"
    );
    bytes[0] = b'X';
    assert!(matches!(read(&bytes), Err(RawLogError::NotALog { .. })));
}

#[test]
fn a_log_of_a_dropped_writer_has_no_trailer() {
    let folder = tempdir().unwrap();
    let path = folder.path().join(PATH);
    let writer = RawLogWriter::create(&path, Timestamp::UNIX_EPOCH, &["GET /".into()]).unwrap();
    drop(writer);
    let read: Result<Vec<RawRecord>, _> = RawLogReader::open(&path).unwrap().collect();
    assert!(matches!(read, Err(RawLogError::Truncated { .. })));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported() {
    let full = Path::new("/dev/full");
    let created = RawLogWriter::create(full, Timestamp::UNIX_EPOCH, &["GET /".into()]);
    let error = created.map(|_| ()).unwrap_err();
    assert!(matches!(&error, RawLogError::File { verb: "write", .. }));
    assert!(error.help().unwrap().to_string().contains("free space"));
}

#[test]
fn records_that_a_slow_disk_does_not_take_are_counted() {
    let (messages, received) = std::sync::mpsc::sync_channel(1);
    let missing = std::sync::Arc::default();
    let mut sink = writer::Sink::to(messages, std::sync::Arc::clone(&missing));
    for _ in 0..2048 {
        sink.put(five_records()[0]);
    }
    drop(received);
    assert_eq!(missing.load(std::sync::atomic::Ordering::Relaxed), 1024);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_written_log_is_read(records in records()) {
        let bytes = written(&records);
        prop_assert_eq!(read(&bytes).unwrap(), records);
    }

    #[test]
    fn invalid_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
        let mut with_header = b"TRIILOAD\x01\x00".to_vec();
        with_header.extend(bytes);
        prop_assert!(read(&with_header).is_err());
    }
}
