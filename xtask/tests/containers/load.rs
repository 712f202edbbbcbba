//! Load on a real platform: correct answers, wrong answers, and runs that are cancelled.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use loadtests::result::Ended;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::{Rig, SECONDS, UP};
use crate::schemas;

const SMOKE: [&str; 3] = ["load", "run", "smoke"];

/// Makes the profile `smoke` shorter, with less thinking time.
fn rig(seconds: u32) -> Rig {
    let rig = Rig::new().change(
        "{ users = 4, seconds = 30 }",
        &format!("{{ users = 4, seconds = {seconds} }}"),
    );
    let thinking = ["[500, 1500]", "[500, 1500]", "[500, 1500]", "[1000, 3000]"];
    thinking.iter().fold(rig, |rig, thinking| {
        rig.change(&format!("think_ms = {thinking}"), "think_ms = [50, 150]")
    })
}

const BREAKPOINT: [&str; 3] = ["load", "run", "breakpoint"];

#[test]
fn the_smoke_profile_is_answered_well_and_every_answer_is_counted() {
    let rig = rig(6);
    rig.up();
    let ended = rig.run(&[&SMOKE[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["run"], rig.events("load")[0]["run"]);
    let result = rig.load_result("smoke");
    // On a busy machine the run must be inconclusive.
    let code = result.generator.bottleneck.as_ref().map_or(0, |_| 5);
    ended
        .expect(code, "none failed: at most")
        .expect_stderr("GET /api/market-data/quotes/{symbol}: ");
    let endpoints = result.endpoints.values();
    let failures = endpoints.flat_map(|endpoint| &endpoint.failures);
    assert_eq!(failures.collect::<Vec<_>>(), []);
    assert_eq!(result.endpoints.len(), 10, "{:?}", result.endpoints.keys());
    assert_eq!(result.ended, Ended::Whole);
    assert_eq!(result.fingerprint.profile, "smoke");
    assert_eq!(result.fingerprint.target, "local");
    let versions = &result.fingerprint.versions;
    assert_eq!(versions["market-data-service"], "v2.1.0", "{versions:?}");
    let total = result.whole();
    assert!(total.requests > 20 && total.failed == 0, "{total:?}");
    schemas::assert_valid(&rig.run_folder("load").unwrap());
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn arrivals_come_at_their_rate_and_each_is_in_the_log() {
    let rig = Rig::new().arrivals(50, 4);
    rig.up();
    let [summary, stream] = ["summary.json", "stream.json"].map(|file| rig.home().join(file));
    let out = format!("json={}", stream.display());
    let files = ["--summary-export", summary.to_str().unwrap(), "--out", &out];
    let ended = rig.run(&[&BREAKPOINT[..], &files].concat());
    let result = rig.load_result("breakpoint");
    let code = result.generator.bottleneck.as_ref().map_or(0, |_| 5);
    ended.expect(code, "holds http_req_failed: rate<0.05");
    if code == 0 {
        ended.expect_stderr("The load finished, and nothing failed.");
    }
    let total = result.whole();
    assert_eq!((total.requests, total.failed, total.dropped), (200, 0, 0));
    let summary: Value = serde_json::from_str(&fs::read_to_string(&summary).unwrap()).unwrap();
    assert_eq!(summary["metrics"]["http_reqs"]["count"], 200);
    assert_eq!(points(&stream, "http_reqs"), 200);
    let versions = &result.fingerprint.versions;
    assert_eq!(versions["market-data-service"], "v2.1.0", "{versions:?}");
    let folder = rig.run_folder("load").unwrap();
    let log = folder.join("load-breakpoint.log");
    for file in [&folder.join("load-breakpoint.json"), &log] {
        let output = show(file, 0);
        assert!(output.contains("GET /market-data/quotes: "), "{output}");
    }
    let content = fs::read(&log).unwrap();
    fs::write(&log, &content[..content.len() - 30]).unwrap();
    let output = show(&log, 1);
    assert!(output.contains("is truncated after"), "{output}");
    let nowhere = rig.home().join("nowhere/stream.json");
    let out = format!("json={}", nowhere.display());
    rig.run(&[&BREAKPOINT[..], &["--out", &out]].concat())
        .expect(3, "nowhere/stream.json");
    let result = rig.run_folder("load").unwrap().join("load-breakpoint.json");
    assert!(!result.exists(), "the load does not start");
    let too_few = "ulimit -n 300; exec \"$0\" \"$@\"";
    rig.spawn_through(&["sh", "-c", too_few], &BREAKPOINT)
        .ends_within(SECONDS)
        .expect(
            3,
            "2000 connections need 2128 open files, and the limit is 300",
        );
    rig.run(&["down"]).expect_code(0);
}

/// A limit of the file size replaces a full disk: a write fails midway.
#[test]
fn a_log_without_space_does_not_lose_the_result() {
    let rig = Rig::new().arrivals(500, 6);
    rig.up();
    let stream = rig.home().join("stream.json.gz");
    let out = format!("json={}", stream.display());
    let no_room = "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\"";
    let ended = rig
        .spawn_through(
            &["sh", "-c", no_room],
            &[&BREAKPOINT[..], &["--out", &out]].concat(),
        )
        .ends_within(UP);
    let result = rig.load_result("breakpoint");
    let code = result.generator.bottleneck.as_ref().map_or(3, |_| 5);
    ended.expect(code, "cannot write the raw log");
    assert_eq!(result.ended, Ended::Whole);
    let total = result.whole();
    assert_eq!(total.requests + total.dropped, 3000, "{total:?}");
    let log = rig.run_folder("load").unwrap().join("load-breakpoint.log");
    let output = show(&log, 1);
    assert!(output.contains("is truncated after"), "{output}");
    assert!(!stream.exists(), "an incomplete stream is removed");
    assert_eq!(partial(&rig), 0);
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn arrivals_that_are_cancelled_leave_complete_files() {
    let rig = Rig::new().arrivals(50, 600);
    rig.up();
    let stream = rig.home().join("stream.json");
    let out = format!("json={}", stream.display());
    let run = [&BREAKPOINT[..], &["--out", &out]].concat();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut running = rig.spawn(&run);
        running.prints("requests, 0 failed");
        running.signal(signal);
        running.ends_within(SECONDS).expect_code(code);
        let result = rig.load_result("breakpoint");
        assert_eq!(result.ended, Ended::Interrupted);
        assert_eq!(points(&stream, "http_reqs"), result.whole().requests);
        let folder = rig.run_folder("load").unwrap();
        show(&folder.join("load-breakpoint.log"), 0);
    }
    assert_eq!(partial(&rig), 0);
    rig.run(&["down"]).expect_code(0);
}

/// Counts the points of a metric. Each line must be complete.
fn points(stream: &Path, metric: &str) -> u64 {
    let text = fs::read_to_string(stream).unwrap();
    let lines = text
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).unwrap() });
    let points = lines.filter(|line| line["type"] == "Point" && line["metric"] == metric);
    points.count() as u64
}

/// Counts the incomplete files.
fn partial(rig: &Rig) -> usize {
    let files = fs::read_dir(rig.home()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".partial")).count()
}

#[test]
fn a_cancelled_run_is_reported_and_keeps_its_measurements() {
    let rig = rig(600);
    rig.up();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut running = rig.spawn(&SMOKE);
        running.prints("requests, 0 failed");
        running.signal(signal);
        let ended = running.ends_within(SECONDS);
        ended.expect_code(code);
        let result = rig.load_result("smoke");
        assert_eq!(result.ended, Ended::Interrupted, "{}", ended.stderr);
        let events = rig.events("load");
        let last = events.last().unwrap();
        assert_eq!(last["event"], "run-finished", "{last}");
    }
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn wrong_answers_and_no_answers_are_reported_differently() {
    let rig = rig(600).change(
        "http_req_failed = [\"rate==0\"]",
        "http_req_failed = [{ threshold = \"rate==0\", abort_on_fail = true, delay_abort_eval = 2 }]",
    );
    rig.up();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_with_nothing(&stream));
        }
    });
    set_entry(&rig, address);
    let ended = rig.run(&SMOKE);
    ended
        .expect(99, "thresholds do not hold")
        .expect_stderr("check: jsonpath \"$.symbol\" == \"{{symbol}}\"");
    let result = rig.load_result("smoke");
    let quotes = &result.endpoints["GET /api/market-data/quotes"];
    let no_list = "check: jsonpath \"$\" isList";
    assert_eq!(quotes.failures.keys().collect::<Vec<_>>(), [no_list]);
    let threshold = "http_req_failed: rate==0".to_owned();
    assert_eq!(result.ended, Ended::Aborted { threshold });
    assert_eq!(result.whole().failed, result.whole().requests);
    let endpoints = result.endpoints.values();
    let failures = endpoints.flat_map(|endpoint| endpoint.failures.keys());
    let failures: BTreeSet<&str> = failures.map(String::as_str).collect();
    assert!(failures.contains("check: a token"), "{failures:?}");
    // The code of an opened portfolio is 201.
    assert!(failures.contains("status 200"), "{failures:?}");
    set_entry(&rig, closed.unwrap());
    rig.run(&SMOKE).expect(3, "the platform does not answer");
    rig.run(&["down"]).expect_code(0);
}

/// Returns the output of `load show`, which must end with this code.
#[track_caller]
fn show(file: &Path, code: i32) -> String {
    let shown = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["load", "show"])
        .arg(file)
        .output()
        .unwrap();
    let output = String::from_utf8([shown.stdout, shown.stderr].concat()).unwrap();
    assert_eq!(shown.status.code(), Some(code), "{output}");
    output
}

/// Changes the address that the environment is reached by.
fn set_entry(rig: &Rig, address: std::net::SocketAddr) {
    let file = rig.environment_folder().join("environment.json");
    let mut environment: Value = rig.environment().unwrap();
    environment["entry"]["address"] = address.to_string().into();
    environment["entry"]["port"] = address.port().into();
    fs::write(file, environment.to_string()).unwrap();
}

/// Answers any request with `200 {}`.
fn answer_with_nothing(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).unwrap_or(0);
        let line = line.trim_end().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        match (read, line.is_empty()) {
            (0, _) => return,
            (_, true) => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    let mut stream = stream;
    let _ = stream.write_all(answer.as_bytes());
}
