use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::tempdir;

use super::*;

const PATH: &str = "raw.log";

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        (0u16..1000, any::<bool>()).prop_map(|(status, good)| Outcome::Status { status, good }),
        Just(Outcome::Refused),
        Just(Outcome::Reset),
        Just(Outcome::TimedOut),
        Just(Outcome::Unreachable),
        Just(Outcome::Tls),
        Just(Outcome::Protocol),
        Just(Outcome::Unanswered),
        Just(Outcome::Dropped),
    ]
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let record = (0..u64::MAX, any::<(u32, u32, u32)>(), 0u16..2, outcomes());
    let record = record.prop_map(|(intended, (lag, took, received), name, outcome)| Record {
        intended,
        lag,
        took,
        received,
        name,
        outcome,
    });
    prop::collection::vec(record, 0..20)
}

fn written(records: &[Record]) -> Vec<u8> {
    let folder = tempdir().unwrap();
    let path = folder.path().join(PATH);
    let names = ["GET /quotes".to_owned(), "POST /órdenes".to_owned()];
    let begun = Timestamp::from_microsecond(1_700_000_000_000_001).unwrap();
    let writer = Writer::create(&path, begun, &names).unwrap();
    let mut sink = writer.sink();
    records.iter().for_each(|record| sink.put(*record));
    drop(sink);
    let expected = Written {
        records: records.len() as u64,
        missing: 0,
    };
    assert_eq!(writer.finish().unwrap(), expected);
    std::fs::read(path).unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<Record>, RawLogError> {
    Reader::of(bytes, Path::new(PATH))?.collect()
}

fn some() -> Vec<Record> {
    let record = |number: u32| Record {
        intended: u64::from(number) * 1000,
        lag: number,
        took: 20 * number,
        received: 5,
        name: 1,
        outcome: Outcome::Status {
            status: 200,
            good: true,
        },
    };
    (0..5).map(record).collect()
}

#[test]
fn the_header_is_read_back() {
    let bytes = written(&some());
    let mut reader = Reader::of(&bytes[..], Path::new(PATH)).unwrap();
    assert_eq!(reader.names(), ["GET /quotes", "POST /órdenes"]);
    assert_eq!(reader.begun().as_microsecond(), 1_700_000_000_000_001);
    assert_eq!(reader.missing(), None);
    assert_eq!(reader.by_ref().count(), 5);
    assert_eq!(reader.missing(), Some(0));
}

#[test]
fn wherever_it_is_cut_off_it_reads_as_truncated() {
    let bytes = written(&some());
    let header = bytes.len() - 6 * RECORD;
    for length in 0..bytes.len() {
        let whole = length.saturating_sub(header) / RECORD;
        match read(&bytes[..length]) {
            Err(RawLogError::Truncated { records, .. }) => {
                assert_eq!(records, whole as u64, "{length}");
            }
            other => panic!("cut off at {length}, it reads as {other:?}"),
        }
    }
}

#[test]
fn no_bit_of_it_changes_unseen() {
    let bytes = written(&some());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(read(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn what_follows_the_trailer_is_not_ours() {
    let mut bytes = written(&some());
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
fn one_that_was_given_up_has_no_trailer() {
    let folder = tempdir().unwrap();
    let path = folder.path().join(PATH);
    let writer = Writer::create(&path, Timestamp::UNIX_EPOCH, &["GET /".into()]).unwrap();
    drop(writer);
    let read: Result<Vec<Record>, _> = Reader::open(&path).unwrap().collect();
    assert!(matches!(read, Err(RawLogError::Truncated { .. })));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_of() {
    let full = Path::new("/dev/full");
    let at_once = Writer::create(full, Timestamp::UNIX_EPOCH, &["GET /".into()]);
    let error = at_once.map(|_| ()).unwrap_err();
    assert!(matches!(&error, RawLogError::File { verb: "write", .. }));
    assert!(error.help().unwrap().to_string().contains("make room"));
}

#[test]
fn what_a_slow_disk_does_not_take_is_counted() {
    let (messages, received) = std::sync::mpsc::sync_channel(1);
    let missing = std::sync::Arc::default();
    let mut sink = writer::Sink::to(messages, std::sync::Arc::clone(&missing));
    for _ in 0..2048 {
        sink.put(some()[0]);
    }
    drop(received);
    assert_eq!(missing.load(std::sync::atomic::Ordering::Relaxed), 1024);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_was_written_is_read(records in records()) {
        let bytes = written(&records);
        prop_assert_eq!(read(&bytes).unwrap(), records);
    }

    #[test]
    fn nonsense_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
        let mut begins_well = b"TRIILOAD\x01\x00".to_vec();
        begins_well.extend(bytes);
        prop_assert!(read(&begins_well).is_err());
    }
}
