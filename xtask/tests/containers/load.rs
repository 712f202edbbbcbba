//! Load on a real platform: that it is answered well, that what is not is found, and what is
//! left of a run that is called off.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use loadtests::result::{Ended, LoadResult};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::{Rig, SECONDS, UP};

const SMOKE: [&str; 3] = ["load", "run", "smoke"];

/// The shipped profile, shorter and with less thinking.
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

fn result(rig: &Rig) -> LoadResult {
    result_of(rig, "smoke")
}

fn result_of(rig: &Rig, profile: &str) -> LoadResult {
    let folder = rig.run_folder("load").unwrap();
    LoadResult::read(&folder.join(format!("load-{profile}.json"))).unwrap()
}

const BREAKPOINT: [&str; 3] = ["load", "run", "breakpoint"];

/// So many arrivals a second, for so long.
fn arrivals(rate: u32, seconds: u32) -> Rig {
    Rig::new().change(
        "stages = [{ rate = 2000, seconds = 1200 }]",
        &format!(
            "stages = [{{ rate = {rate}, seconds = 0 }}, {{ rate = {rate}, seconds = {seconds} }}]"
        ),
    )
}

#[test]
fn the_smoke_profile_is_answered_well_and_every_answer_is_counted() {
    let rig = rig(6);
    rig.up();
    let ended = rig.run(&[&SMOKE[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["run"], rig.events("load")[0]["run"]);
    let result = result(&rig);
    // On a machine that does much else beside it, it must say so.
    let code = match result.generator.bottleneck {
        None => 0,
        Some(_) => 5,
    };
    ended
        .expect_code(code)
        .expect_words("none failed: at most")
        .expect_words("GET /api/market-data/quotes/{symbol}: ");
    let failures = result.endpoints.values().flat_map(|it| &it.failures);
    assert_eq!(failures.collect::<Vec<_>>(), []);
    assert_eq!(result.endpoints.len(), 10, "{:?}", result.endpoints.keys());
    assert_eq!(result.ended, Ended::Whole);
    assert_eq!(result.fingerprint.profile, "smoke");
    assert_eq!(result.fingerprint.target, "local");
    let versions = &result.fingerprint.versions;
    assert_eq!(versions["market-data-service"], "v2.1.0", "{versions:?}");
    let whole = result.whole();
    assert!(whole.requests > 20 && whole.failed == 0, "{whole:?}");
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn arrivals_come_at_their_rate_and_each_is_in_the_log() {
    let rig = arrivals(50, 4);
    rig.up();
    let (summary, stream) = (
        rig.home().join("summary.json"),
        rig.home().join("stream.json"),
    );
    let option = summary.to_str().unwrap();
    let out = format!("json={}", stream.display());
    let ended = rig.run(
        &[
            &BREAKPOINT[..],
            &["--summary-export", option, "--out", &out],
        ]
        .concat(),
    );
    let result = result_of(&rig, "breakpoint");
    let code = match result.generator.bottleneck {
        None => 0,
        Some(_) => 5,
    };
    ended
        .expect_code(code)
        .expect_words("holds http_req_failed: rate<0.05");
    if code == 0 {
        ended.expect_words("The load ran to its end, and all that must hold of it does.");
    }
    let whole = result.whole();
    assert_eq!((whole.requests, whole.failed, whole.dropped), (200, 0, 0));
    let summary: Value = serde_json::from_str(&fs::read_to_string(&summary).unwrap()).unwrap();
    assert_eq!(summary["metrics"]["http_reqs"]["count"], 200);
    assert_eq!(points(&stream, "http_reqs"), 200);
    let versions = &result.fingerprint.versions;
    assert_eq!(versions["market-data-service"], "v2.1.0", "{versions:?}");
    let folder = rig.run_folder("load").unwrap();
    let log = folder.join("load-breakpoint.log");
    for file in [&folder.join("load-breakpoint.json"), &log] {
        let (code, said) = show(file);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("GET /market-data/quotes: "), "{said}");
    }
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() - 30]).unwrap();
    let (code, said) = show(&log);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is truncated after"), "{said}");
    let nowhere = rig.home().join("nowhere/stream.json");
    let out = format!("json={}", nowhere.display());
    rig.run(&[&BREAKPOINT[..], &["--out", &out]].concat())
        .expect_code(3)
        .expect_words("nowhere/stream.json");
    let result = rig.run_folder("load").unwrap().join("load-breakpoint.json");
    assert!(!result.exists(), "that is known before the load");
    let too_few = "ulimit -n 300; exec \"$0\" \"$@\"";
    rig.spawn_through(&["sh", "-c", too_few], &BREAKPOINT)
        .ends_within(SECONDS)
        .expect_code(3)
        .expect_words("2000 connections need 2128 open files, and the limit is 300");
    rig.run(&["down"]).expect_code(0);
}

/// Files that may not grow stand for a disk that is full: writing fails midway.
#[test]
fn a_log_for_which_there_is_no_room_costs_no_result() {
    let rig = arrivals(500, 6);
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
    let result = result_of(&rig, "breakpoint");
    let code = match result.generator.bottleneck {
        None => 3,
        Some(_) => 5,
    };
    ended
        .expect_code(code)
        .expect_words("cannot write the raw log");
    assert_eq!(result.ended, Ended::Whole);
    let whole = result.whole();
    assert_eq!(whole.requests + whole.dropped, 3000, "{whole:?}");
    let log = rig.run_folder("load").unwrap().join("load-breakpoint.log");
    let (code, said) = show(&log);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is truncated after"), "{said}");
    assert!(!stream.exists(), "a part of a stream is none");
    assert_eq!(partial(&rig), 0);
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn arrivals_that_are_called_off_leave_whole_files() {
    let rig = arrivals(50, 600);
    rig.up();
    let stream = rig.home().join("stream.json");
    let out = format!("json={}", stream.display());
    let run = [&BREAKPOINT[..], &["--out", &out]].concat();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut course = rig.spawn(&run);
        course.says("requests, 0 failed");
        course.signal(signal);
        course.ends_within(SECONDS).expect_code(code);
        let result = result_of(&rig, "breakpoint");
        assert_eq!(result.ended, Ended::Interrupted);
        assert_eq!(points(&stream, "http_reqs"), result.whole().requests);
        let folder = rig.run_folder("load").unwrap();
        let (code, said) = show(&folder.join("load-breakpoint.log"));
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(partial(&rig), 0);
    rig.run(&["down"]).expect_code(0);
}

/// How many points of a metric there are. Each line must be whole.
fn points(stream: &Path, metric: &str) -> u64 {
    let text = fs::read_to_string(stream).unwrap();
    let lines = text
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).unwrap() });
    let points = lines.filter(|line| line["type"] == "Point" && line["metric"] == metric);
    points.count() as u64
}

/// How many files were begun and not finished.
fn partial(rig: &Rig) -> usize {
    let files = fs::read_dir(rig.home()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".partial")).count()
}

#[test]
fn called_off_it_says_so_and_keeps_what_was_measured() {
    let rig = rig(600);
    rig.up();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut course = rig.spawn(&SMOKE);
        course.says("requests, 0 failed");
        course.signal(signal);
        let ended = course.ends_within(SECONDS);
        ended.expect_code(code);
        assert_eq!(result(&rig).ended, Ended::Interrupted, "{}", ended.stderr);
        let events = rig.events("load");
        let last = events.last().unwrap();
        assert_eq!(last["event"], "run-finished", "{last}");
    }
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn wrong_answers_and_none_at_all_are_told_apart() {
    let rig = rig(600).change(
        "http_req_failed = [\"rate==0\"]",
        "http_req_failed = [{ threshold = \"rate==0\", abort_on_fail = true, delay_abort_eval = 2 }]",
    );
    rig.up();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = silent.local_addr().unwrap();
    drop(silent);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answers_nothing_of_use(&stream));
        }
    });
    comes_in_by(&rig, address);
    let ended = rig.run(&SMOKE);
    ended
        .expect_code(99)
        .expect_words("thresholds do not hold")
        .expect_words("GET /api/market-data/quotes: check: a list of quotes");
    let result = result(&rig);
    let threshold = "http_req_failed: rate==0".to_owned();
    assert_eq!(result.ended, Ended::Aborted { threshold });
    assert_eq!(result.whole().failed, result.whole().requests);
    let failures = result.endpoints.values().flat_map(|it| it.failures.keys());
    let failures: BTreeSet<&str> = failures.map(String::as_str).collect();
    assert!(failures.contains("check: a token"), "{failures:?}");
    // An opened portfolio is a 201.
    assert!(failures.contains("status 200"), "{failures:?}");
    comes_in_by(&rig, nobody);
    rig.run(&SMOKE)
        .expect_code(3)
        .expect_words("the platform does not answer");
    rig.run(&["down"]).expect_code(0);
}

/// What `load show` ends with, and says.
fn show(file: &Path) -> (Option<i32>, String) {
    let shown = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["load", "show"])
        .arg(file)
        .output()
        .unwrap();
    let said = [shown.stdout, shown.stderr].concat();
    (shown.status.code(), String::from_utf8(said).unwrap())
}

/// Has the environment be reached somewhere else.
fn comes_in_by(rig: &Rig, address: std::net::SocketAddr) {
    let file = rig.environment_folder().join("environment.json");
    let mut environment: Value = rig.environment().unwrap();
    environment["entry"]["address"] = address.to_string().into();
    environment["entry"]["port"] = address.port().into();
    fs::write(file, environment.to_string()).unwrap();
}

/// Whatever is asked, `200 {}`.
fn answers_nothing_of_use(stream: &TcpStream) {
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
