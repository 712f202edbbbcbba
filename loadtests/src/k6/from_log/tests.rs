use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::raw_log::RawLogWriter;

const QUOTES: &str = "GET /quotes";

fn stages() -> Vec<LoadStage> {
    let stage = |to, seconds| LoadStage {
        to,
        lasts: Duration::from_secs(seconds),
    };
    vec![stage(4, 2), stage(4, 10)]
}

fn open() -> Traffic {
    Traffic::Open {
        stages: stages(),
        max_in_flight: 50,
    }
}

fn record(intended: u64, took: u32, outcome: RawOutcome) -> RawRecord {
    RawRecord {
        intended,
        lag: 500,
        took,
        received: 7,
        name: 1,
        follows: false,
        outcome,
    }
}

fn good() -> RawOutcome {
    RawOutcome::Status {
        status: 200,
        good: true,
    }
}

fn log(folder: &TempDir, records: &[RawRecord]) -> PathBuf {
    let path = folder.path().join("load-stress.log");
    let names = ["(other)".to_owned(), QUOTES.to_owned()];
    let writer = RawLogWriter::create(&path, Timestamp::UNIX_EPOCH, &names).unwrap();
    let mut sink = writer.sink();
    records.iter().for_each(|record| sink.put(*record));
    drop(sink);
    writer.finish().unwrap();
    path
}

async fn written(traffic: &Traffic, records: &[RawRecord]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let (log, out) = (log(&folder, records), folder.path().join("out.json"));
    let logged = StreamFromLog::begin(&out, "stress", traffic, &[]).unwrap();
    logged.write(&log).await.unwrap();
    let text = fs::read_to_string(out).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The values of each metric's points.
fn values(lines: &[Value]) -> BTreeMap<&str, Vec<f64>> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line["type"] == "Point") {
        let of = values.entry(line["metric"].as_str().unwrap()).or_default();
        of.push(line["data"]["value"].as_f64().unwrap());
    }
    values
}

#[tokio::test]
async fn an_arrival_is_a_request_a_check_and_an_iteration() {
    let records = [
        record(0, 1_500, good()),
        record(
            10,
            2_500,
            RawOutcome::Status {
                status: 200,
                good: false,
            },
        ),
        record(20, 3_500, RawOutcome::Refused),
        record(30, 0, RawOutcome::Dropped),
    ];
    let lines = written(&open(), &records).await;
    let values = values(&lines);
    assert_eq!(values["http_req_duration"], [1.5, 2.5, 3.5]);
    assert_eq!(values["http_req_blocked"], [0.5; 3]);
    assert_eq!(values["iteration_duration"], [2.0, 3.0, 4.0]);
    assert_eq!(values["checks"], [1.0, 0.0, 0.0]);
    assert_eq!(values["http_req_failed"], [0.0, 0.0, 1.0]);
    assert_eq!(values["data_received"], [7.0; 3]);
    assert_eq!(values["dropped_iterations"], [1.0]);
    assert!(!values.contains_key("data_sent"));
    let points = lines.iter().filter(|line| line["type"] == "Point");
    let points = points.filter(|line| line["metric"] == "http_reqs");
    let of_requests: Vec<_> = points.collect();
    let tags = &of_requests[0]["data"]["tags"];
    assert_eq!(tags["name"], QUOTES);
    assert_eq!(tags["method"], "GET");
    assert_eq!(tags["scenario"], "stress");
    assert_eq!(of_requests[0]["data"]["time"], "1970-01-01T00:00:00.002Z");
    assert_eq!(of_requests[2]["data"]["tags"]["error_code"], "1212");
}

#[tokio::test]
async fn a_request_that_follows_is_no_iteration() {
    let follows = RawRecord {
        follows: true,
        ..record(10, 2_500, good())
    };
    let lines = written(&open(), &[record(0, 1_500, good()), follows]).await;
    let values = values(&lines);
    assert_eq!(values["http_reqs"], [1.0, 1.0]);
    assert_eq!(values["iterations"], [1.0]);
}

#[tokio::test]
async fn users_are_the_requests_in_flight_at_each_second() {
    let records = [
        record(100_000, 100_000, good()),
        record(900_000, 2_000_000, good()),
        record(1_500_000, 1_000_000, good()),
        record(3_100_000, 100_000, good()),
    ];
    let lines = written(&open(), &records).await;
    let values = values(&lines);
    assert_eq!(values["vus"], [0.0, 1.0, 2.0, 0.0]);
    assert_eq!(values["vus_max"], [50.0; 4]);
}

#[tokio::test]
async fn a_closed_model_has_the_users_of_its_stages_and_no_iterations() {
    let traffic = Traffic::Closed { stages: stages() };
    let records = [record(0, 1_000, good()), record(2_900_000, 200_000, good())];
    let lines = written(&traffic, &records).await;
    let values = values(&lines);
    assert_eq!(values["vus"], [0.0, 2.0, 4.0, 4.0]);
    assert_eq!(values["vus_max"], [4.0; 4]);
    assert!(!values.contains_key("iterations"));
    assert_eq!(values["data_received"].len(), 2);
}

#[tokio::test]
async fn an_incomplete_log_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<_> = (0..10).map(|at| record(at, 1_000, good())).collect();
    let log = log(&folder, &records);
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() - 30]).unwrap();
    let out = folder.path().join("out.json.gz");
    let traffic = open();
    let logged = StreamFromLog::begin(&out, "stress", &traffic, &[]).unwrap();
    let error = logged.write(&log).await.unwrap_err();
    assert!(matches!(error, StreamError::Log(_)), "{error}");
    assert!(!out.exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_stream_that_is_dropped_while_it_is_written_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let records = vec![record(0, 1_000, good()); 10 * YIELD_EVERY];
    let log = log(&folder, &records);
    let out = folder.path().join("out.json");
    let traffic = open();
    let logged = StreamFromLog::begin(&out, "stress", &traffic, &[]).unwrap();
    tokio::select! {
        biased;
        _ = logged.write(&log) => panic!("it was not dropped"),
        () = async { for _ in 0..15 { yield_now().await } } => {}
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
