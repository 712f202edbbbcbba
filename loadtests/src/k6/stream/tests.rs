use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::k6::{Protocol, RequestFailure, Timings};

fn sample(endpoint: &str) -> RequestSample<'_> {
    RequestSample {
        endpoint,
        method: "GET",
        scenario: "smoke",
        ended: Timestamp::UNIX_EPOCH,
        timings: Timings {
            waiting: Duration::from_micros(1500),
            ..Timings::default()
        },
        ending: RequestEnd::Answered {
            status: 200,
            protocol: Protocol::Http2,
            tls: None,
        },
    }
}

fn lines(thresholds: &[Threshold], write: impl FnOnce(&mut JsonStream)) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json");
    let mut stream = JsonStream::create(&path, thresholds).unwrap();
    write(&mut stream);
    stream.finish().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn a_run_without_requests_is_an_empty_file() {
    assert!(lines(&[], |_| ()).is_empty());
}

#[test]
fn several_dropped_arrivals_are_one_point() {
    let at = Timestamp::UNIX_EPOCH;
    let lines = lines(&[], |stream| stream.dropped("smoke", at, 7).unwrap());
    assert_eq!(lines[1]["data"]["value"], 7);
}

#[test]
fn a_threshold_on_an_endpoint_declares_a_submetric_once() {
    let thresholds = ["p(95)<500", "avg<200"].map(|text| {
        let threshold: Threshold = text.parse().unwrap();
        threshold.for_endpoint("GET /quotes")
    });
    let lines = lines(&thresholds, |stream| {
        stream.request(&sample("GET /quotes")).unwrap()
    });
    let data = lines
        .iter()
        .find(|line| line["metric"] == "http_req_duration");
    let data = &data.unwrap()["data"];
    assert_eq!(data["thresholds"], Value::Array(Vec::new()));
    let submetrics = data["submetrics"].as_array().unwrap().iter();
    let names: Vec<_> = submetrics.map(|submetric| &submetric["name"]).collect();
    let own = "http_req_duration{name:GET /quotes}";
    assert_eq!(names, [own, "http_req_duration{expected_response:true}"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_no_stream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json");
    let mut stream = JsonStream::onto(OutputFile::on_a_full_disk(&path), &[]);
    let mut written = (0..1000).map(|_| stream.request(&sample("GET /quotes")));
    let failed = written.find_map(Result::err).unwrap();
    assert!(matches!(failed, OutputError::DiskFull { .. }), "{failed}");
    drop(written);
    let error = stream.finish().unwrap_err();
    assert!(matches!(error, OutputError::Incomplete { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

proptest! {
    #[test]
    fn each_line_is_json_and_each_metric_is_declared_first(
        calls in prop::collection::vec((0u8..6, "\\PC*|[\"\\\\\n]*"), 0..20)
    ) {
        let at = Timestamp::UNIX_EPOCH;
        let lines = lines(&[], |stream| {
            for (call, name) in &calls {
                let lasted = Duration::from_micros(3);
                let sample = sample(name);
                let failed = RequestSample { ending: RequestEnd::Failed(RequestFailure::Other(name)), ..sample };
                let check = CheckSample { name, scenario: name, at, passed: true };
                let iteration = Iteration { scenario: name, ended: at, lasted };
                let written = match call {
                    0 => stream.request(&sample),
                    1 => stream.request(&failed),
                    2 => stream.check(&check),
                    3 => stream.iteration(&iteration),
                    4 => stream.data(name, at, None, 1),
                    _ => stream.users(at, 1, 2),
                };
                written.unwrap();
            }
        });
        let mut declared = BTreeSet::new();
        for line in lines {
            let metric = line["metric"].as_str().unwrap().to_owned();
            match line["type"].as_str() {
                Some("Metric") => prop_assert!(declared.insert(metric)),
                _ => prop_assert!(declared.contains(&metric)),
            }
        }
    }
}
