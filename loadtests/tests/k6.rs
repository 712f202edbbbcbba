//! Compares the files written in k6's formats with those that k6 itself wrote about the same
//! traffic. `tests/k6/README.md` says how those were made.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;
use jiff::Timestamp;
use loadtests::k6::{
    CheckSample, Iteration, JsonStream, Protocol, RequestEnd, RequestFailure, RequestSample,
    Summary, Timings, TlsVersion,
};
use loadtests::result::{
    Block, Distribution, Ended, Endpoint, EngineKind, Fingerprint, Generator, LoadResult, SCHEMA,
};
use loadtests::threshold::{Threshold, ThresholdResult, evaluate_all};
use serde_json::{Value, json};

const STREAM: &str = include_str!("k6/stream.json");
const EXPORT: &str = include_str!("k6/summary-export.json");
const DATA: &str = include_str!("k6/handle-summary.json");
const ACCEPTED: &str = include_str!("k6/accepted.json");

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The thresholds of `script.js`.
fn thresholds() -> Vec<Threshold> {
    let duration = |expression| Threshold::of("http_req_duration", expression).unwrap();
    let delay = Some(Duration::from_secs(10));
    let mut thresholds = vec![
        duration("p(95)<500"),
        duration("avg<200").aborting(delay),
        duration("max<60000").aborting(None),
    ];
    for (key, expression) in [
        ("http_req_duration{name:GET /quotes}", "p(99)<100"),
        ("http_req_duration{name:GET /never}", "p(99)<100"),
        ("http_req_failed", "rate<0.01"),
        ("checks", "rate>0.99"),
        ("http_reqs", "count>5"),
        ("iterations", "count>5"),
        ("data_received", "count>10"),
        ("dropped_iterations", "count<1"),
    ] {
        thresholds.push(Threshold::of(key, expression).unwrap());
    }
    thresholds
}

/// The differences to k6, by a threshold or its delay. The documentation of `threshold` has the
/// reasons.
const REFUSED_HERE: [&str; 13] = [
    "p(95)<0x10p0",
    "p(95)<Inf",
    "p(95)<infinity",
    "p(95)<NaN",
    "p(101)<1",
    "p(-1)<1",
    "p(NaN)<1",
    "p(+Inf)<1",
    "p<500",
    "vus: value>0",
    "http_req_duration{status:200}: max<60000",
    "http_req_duration{nosuchtag:a}: max<60000",
    "-5s",
];
const TAKEN_HERE: [&str; 4] = ["min<1 ms", "p(99)<100ms", "avg<200s", "rate<1%"];

#[test]
fn what_k6_accepts_is_accepted_and_what_it_refuses_refused() {
    let (mut refused_here, mut taken_here) = (BTreeSet::new(), BTreeSet::new());
    for case in parsed(ACCEPTED).as_array().unwrap() {
        let text = |field: &str| case[field].as_str().unwrap_or_default().to_owned();
        let (metric, expression) = (text("metric"), text("threshold"));
        let named = [
            format!("{metric}: {expression}"),
            expression,
            text("delayAbortEval"),
        ];
        let mut stored =
            json!({"threshold": named[0], "abort-on-fail": case["abortOnFail"] == true});
        match &case["delayAbortEval"] {
            Value::Null => {}
            Value::String(delay) => stored["delay"] = json!(delay),
            number => stored["delay"] = json!(number.to_string()),
        }
        let ours = Threshold::of(&metric, &named[1]).is_ok()
            && serde_json::from_value::<Threshold>(stored).is_ok();
        match (ours, case["accepted"].as_bool().unwrap()) {
            (false, true) => refused_here.insert(named),
            (true, false) => taken_here.insert(named),
            _ => continue,
        };
    }
    let listed = |found: &BTreeSet<[String; 3]>, list: &[&str]| {
        let one = |names: &[String; 3]| list.iter().any(|it| names.iter().any(|name| name == it));
        assert!(found.iter().all(one), "{found:#?}");
        assert_eq!(found.len(), list.len(), "{found:#?}");
    };
    listed(&refused_here, &REFUSED_HERE);
    listed(&taken_here, &TAKEN_HERE);
}

/// One point of k6's stream.
struct Point {
    metric: String,
    time: Timestamp,
    value: f64,
    tags: Value,
}

fn points() -> Vec<Point> {
    let lines = STREAM.lines().map(parsed);
    let points = lines.filter(|line| line["type"] == "Point");
    let points = points.map(|line| Point {
        metric: line["metric"].as_str().unwrap().to_owned(),
        time: line["data"]["time"].as_str().unwrap().parse().unwrap(),
        value: line["data"]["value"].as_f64().unwrap(),
        tags: line["data"]["tags"].clone(),
    });
    points.collect()
}

impl Point {
    fn tag(&self, name: &str) -> Option<&str> {
        self.tags[name].as_str()
    }

    fn duration(&self) -> Duration {
        Duration::from_nanos((self.value * 1e6).round() as u64)
    }

    fn ending(&self) -> RequestEnd<'_> {
        let failure = match self.tag("error_code") {
            Some("1050") => RequestFailure::Timeout,
            Some("1101") => RequestFailure::NoSuchHost,
            Some("1212") => RequestFailure::ConnectionRefused,
            Some("1220") => RequestFailure::Reset,
            _ => {
                return RequestEnd::Answered {
                    status: self.tag("status").unwrap().parse().unwrap(),
                    protocol: Protocol::Http11,
                    tls: self.tag("tls_version").map(|_| TlsVersion::Tls13),
                };
            }
        };
        RequestEnd::Failed(failure)
    }
}

/// Tells `stream` what k6's points are of.
fn replay(stream: &mut JsonStream) {
    let points = points();
    let mut rest = points.as_slice();
    while let Some(point) = rest.first() {
        let scenario = point.tag("scenario").unwrap_or_default();
        let (taken, summary) = match point.metric.as_str() {
            "http_reqs" => {
                let [
                    _,
                    _,
                    blocked,
                    connecting,
                    tls,
                    sending,
                    waiting,
                    receiving,
                    ..,
                ] = rest
                else {
                    panic!("nine points of a request");
                };
                let sample = RequestSample {
                    endpoint: point.tag("name").unwrap(),
                    method: point.tag("method").unwrap(),
                    scenario,
                    ended: point.time,
                    timings: Timings {
                        blocked: blocked.duration(),
                        connecting: connecting.duration(),
                        tls_handshaking: tls.duration(),
                        sending: sending.duration(),
                        waiting: waiting.duration(),
                        receiving: receiving.duration(),
                    },
                    ending: point.ending(),
                };
                (9, stream.request(&sample))
            }
            "checks" => {
                let check = CheckSample {
                    name: point.tag("check").unwrap(),
                    scenario,
                    at: point.time,
                    passed: point.value == 1.0,
                };
                (1, stream.check(&check))
            }
            "data_sent" => {
                let iteration = Iteration {
                    scenario,
                    ended: point.time,
                    lasted: rest[2].duration(),
                };
                let (sent, received) = (point.value as u64, rest[1].value as u64);
                let data = stream.data(scenario, point.time, Some(sent), received);
                (4, data.and_then(|()| stream.iteration(&iteration)))
            }
            "dropped_iterations" => {
                let count = point.value as u64;
                (1, stream.dropped(scenario, point.time, count))
            }
            "vus" => {
                let most = rest[1].value as u64;
                (2, stream.users(point.time, point.value as u64, most))
            }
            other => panic!("{other} stands alone"),
        };
        summary.unwrap();
        rest = &rest[taken..];
    }
}

/// k6 lists submetrics in any order.
fn sorted(mut line: Value) -> Value {
    if let Some(submetrics) = line["data"]["submetrics"].as_array_mut() {
        submetrics.sort_by_key(|it| it["name"].to_string());
    }
    line
}

#[test]
fn the_stream_of_the_same_traffic_is_k6s_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json");
    let mut stream = JsonStream::create(&path, &thresholds()).unwrap();
    replay(&mut stream);
    stream.finish().unwrap();
    let ours = fs::read_to_string(&path).unwrap();
    assert_eq!(ours.lines().count(), STREAM.lines().count());
    for (ours, theirs) in ours.lines().zip(STREAM.lines()) {
        let (our_line, their_line) = (sorted(parsed(ours)), sorted(parsed(theirs)));
        assert_eq!(our_line, their_line);
        // Equal to the byte, unless the order of fields or the notation of numbers may differ.
        if our_line["type"] == "Point" && !theirs.contains("e-") {
            assert_eq!(ours, theirs);
        }
    }
}

#[test]
fn a_compressed_stream_holds_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json.gz");
    let mut stream = JsonStream::create(&path, &thresholds()).unwrap();
    replay(&mut stream);
    stream.finish().unwrap();
    let mut text = String::new();
    let mut decoder = GzDecoder::new(File::open(&path).unwrap());
    decoder.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), STREAM.lines().count());
}

/// The load result of k6's traffic.
fn result() -> LoadResult {
    let points = points();
    let mut endpoints: BTreeMap<String, Endpoint> = BTreeMap::new();
    let mut block = |name: &str, change: &dyn Fn(&mut Block)| {
        let endpoint = endpoints.entry(name.to_owned()).or_default();
        change(endpoint.blocks.entry(0).or_default());
    };
    for point in &points {
        let name = point.tag("name").unwrap_or("GET /slow");
        let value = point.value as u64;
        match point.metric.as_str() {
            "http_reqs" => block(name, &|it| it.requests += 1),
            "http_req_failed" => block(name, &|it| it.failed += value),
            "http_req_duration" => {
                let micros = point.duration().as_micros() as u64;
                let took: Distribution = [micros].into_iter().collect();
                block(name, &|it| it.latency.add(&took));
            }
            "data_received" => block(name, &|it| it.received += value),
            "iterations" => block(name, &|it| it.arrivals += value),
            "dropped_iterations" => block(name, &|it| it.dropped += value),
            _ => {}
        }
    }
    let lasted = parsed(DATA)["state"]["testRunDurationMs"].as_f64().unwrap();
    LoadResult {
        schema: SCHEMA,
        run: "k6".to_owned(),
        engine: EngineKind::Open,
        fingerprint: Fingerprint::default(),
        begun: points[0].time,
        block_millis: lasted.round() as u64,
        ended: Ended::Whole,
        generator: Generator {
            cores_used: 0.1,
            cores: 1,
            lag: Distribution::default(),
            bottleneck: None,
        },
        endpoints,
    }
}

fn verdicts() -> Vec<ThresholdResult> {
    evaluate_all(&thresholds(), &result())
}

/// What the summary leaves out, as `k6` says.
const LEFT_OUT: [&str; 11] = [
    "data_sent",
    "http_req_blocked",
    "http_req_connecting",
    "http_req_duration{expected_response:true}",
    "http_req_receiving",
    "http_req_sending",
    "http_req_tls_handshaking",
    "http_req_waiting",
    "iteration_duration",
    "vus",
    "vus_max",
];

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// Each metric of ours with k6's of the same name; the others are those left out.
fn pairs<'a>(ours: &'a Value, theirs: &'a Value) -> Vec<(&'a str, &'a Value, &'a Value)> {
    let (ours, theirs) = (&ours["metrics"], &theirs["metrics"]);
    let missing: Vec<_> = keys(theirs).difference(&keys(ours)).copied().collect();
    assert_eq!(missing, LEFT_OUT);
    let all = keys(ours)
        .into_iter()
        .map(|name| (name, &ours[name], &theirs[name]));
    all.collect()
}

/// Some values are not compared: percentiles of few samples, between which k6 interpolates, and
/// checks, which k6's script makes as it likes and which are requests here.
fn same(metric: &str, name: &str, ours: &Value, theirs: &Value) {
    if metric == "checks" || name == "med" || name.starts_with("p(") {
        return;
    }
    let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
    let apart = (ours - theirs).abs();
    assert!(
        apart <= 0.002 + theirs * 0.002,
        "{metric} {name}: {ours} for {theirs}"
    );
}

#[test]
fn the_exported_summary_has_k6s_shape_and_numbers() {
    let (ours, theirs) = (Summary::of(&result(), &verdicts()).export(), parsed(EXPORT));
    assert_eq!(keys(&ours), keys(&theirs));
    assert_eq!(keys(&ours["root_group"]), keys(&theirs["root_group"]));
    for (metric, ours, theirs) in pairs(&ours, &theirs) {
        assert_eq!(keys(ours), keys(theirs), "{metric}");
        for name in keys(ours) {
            match name == "thresholds" {
                // k6 passes the one without samples.
                true if metric.contains("/never") => {
                    assert_eq!(ours[name]["p(99)<100"], true);
                }
                true => assert_eq!(ours[name], theirs[name], "{metric}"),
                false => same(metric, name, &ours[name], &theirs[name]),
            }
        }
    }
}

#[test]
fn the_data_of_handle_summary_has_k6s_shape_and_numbers() {
    let (ours, theirs) = (Summary::of(&result(), &verdicts()).data(), parsed(DATA));
    assert_eq!(keys(&ours), keys(&theirs));
    assert_eq!(ours["options"], theirs["options"]);
    assert_eq!(keys(&ours["state"]), keys(&theirs["state"]));
    assert_eq!(keys(&ours["root_group"]), keys(&theirs["root_group"]));
    for (metric, ours, theirs) in pairs(&ours, &theirs) {
        assert_eq!(keys(ours), keys(theirs), "{metric}");
        assert_eq!(ours["type"], theirs["type"]);
        assert_eq!(ours["contains"], theirs["contains"]);
        assert_eq!(keys(&ours["values"]), keys(&theirs["values"]), "{metric}");
        for name in keys(&ours["values"]) {
            same(metric, name, &ours["values"][name], &theirs["values"][name]);
        }
        match metric.contains("/never") {
            true => assert_eq!(ours["thresholds"]["p(99)<100"]["ok"], false),
            false => assert_eq!(ours["thresholds"], theirs["thresholds"], "{metric}"),
        }
    }
}

#[test]
fn a_summary_of_nothing_has_only_what_thresholds_ask_for() {
    let result = LoadResult {
        endpoints: BTreeMap::new(),
        ..result()
    };
    let verdicts = evaluate_all(&thresholds(), &result);
    assert!(verdicts.iter().all(|verdict| !verdict.holds()));
    let summary = Summary::of(&result, &verdicts);
    assert_eq!(
        keys(&Summary::of(&result, &[]).export()["metrics"]),
        BTreeSet::new()
    );
    let metrics = &summary.export()["metrics"];
    assert_eq!(
        metrics["http_req_duration"]["thresholds"]["p(95)<500"],
        true
    );
    assert_eq!(metrics["http_req_duration"]["p(95)"], 0);
    assert_eq!(metrics["http_reqs"]["rate"], 0);
}

#[test]
fn the_exported_summary_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("summary.json");
    let summary = Summary::of(&result(), &verdicts());
    summary.write_export(&path).unwrap();
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written, format!("{:#}\n", summary.export()));
}

#[test]
fn the_text_at_the_end_has_k6s_layout() {
    insta::assert_snapshot!(Summary::of(&result(), &[]).text().join("\n"));
}
