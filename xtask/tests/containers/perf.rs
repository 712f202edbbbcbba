//! Regressions on a real platform: a planted one is found, and each version that is brought up is
//! taken down.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use loadtests::result::{Ended, LoadResult};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::machine::eventually;
use crate::rig::{Rig, UP};
use crate::schemas;

/// The shortest run that can be compared, with a warm-up of two seconds.
fn rig() -> Rig {
    Rig::new().change(
        "{ rate = 90, seconds = 150 }",
        "{ rate = 90, seconds = 13 }",
    )
}

/// Reads a result of the last run.
fn result(rig: &Rig, file: &str) -> LoadResult {
    let folder = rig.run_folder("perf").unwrap();
    let text = fs::read_to_string(folder.join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn report(rig: &Rig) -> Value {
    let folder = rig.run_folder("perf").unwrap();
    let text = fs::read_to_string(folder.join("report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_service_slower_than_its_baseline_regresses() {
    let rig = rig();
    let environment = rig.up();
    let baseline = rig.home().join("main.json");
    let file = baseline.to_str().unwrap();
    let saved = rig.run(&["perf", "--save", file, "--runs", "1"]);
    let was_busy = |file: &str| result(&rig, file).generator.bottleneck.is_some();
    if was_busy("a/load-steady-1.json") {
        // On a busy machine the run must be inconclusive.
        saved.expect_code(5);
        rig.run(&["down"]).expect_code(0);
        return;
    }
    saved.expect(0, "1 runs of this version, 5 are needed");
    rig.run(&["perf", "--against", file])
        .expect(5, "the baseline has 1 runs, 5 are needed");
    make_it_five(&baseline);
    plant_latency(&environment, 60);
    let before = fs::read(&baseline).unwrap();
    let ended = rig.run(&["perf", "--against", file, "--save", file]);
    if was_busy("b/load-steady-1.json") {
        ended.expect_code(5);
    } else {
        ended
            .expect(98, "regressed: ")
            .expect_stderr("not stored: it regressed");
        let rows = ended.stdout.lines();
        let slower = rows.filter(|row| row.contains(" p50 ") && row.contains(" regressed "));
        assert_eq!(slower.count(), 3, "{}", ended.stdout);
        let report = report(&rig);
        assert_eq!(report["comparisons"][0]["verdict"], "regressed");
        assert_eq!(report["verdict"], "failed");
        schemas::assert_valid(&rig.run_folder("perf").unwrap());
        assert_eq!(fs::read(&baseline).unwrap(), before);
    }
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn versions_are_brought_up_in_turn_and_a_cancelled_run_leaves_none() {
    let rig = rig();
    let versions = rig.home().join("harness/versions");
    fs::create_dir_all(&versions).unwrap();
    let other = versions.join("v0.0.1");
    // The started process inherits few variables.
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    };
    // The same program: it is built before this script starts.
    let platform = target.join("release/platform");
    let script = format!("#!/bin/sh\nexec \"{}\" \"$@\"\n", platform.display());
    fs::write(&other, script).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    let mut running = rig.spawn(&["perf", "--target", "local", "--ab", "v2.1.0", "v0.0.1"]);
    eventually("B is under load", UP, || {
        let events = rig.events("perf");
        let loads = events
            .iter()
            .filter(|event| event["event"] == "note" && event["stage"] == "load")
            .filter(|event| {
                event["text"]
                    .as_str()
                    .unwrap()
                    .starts_with("profile steady")
            });
        (loads.count() == 2).then_some(()).ok_or(running.stderr())
    });
    let traces = rig.traces();
    running.prints("requests, 0 failed");
    running.signal(Signal::SIGINT);
    let ended = running.ends_within(UP);
    ended.expect(130, "1 of 14 runs were made");
    traces.are_gone(&rig);
    let a = result(&rig, "a/load-steady-1.json");
    assert_eq!(a.fingerprint.versions["market-data-service"], "v2.1.0");
    assert_eq!(a.ended, Ended::Whole);
    let machine = &a.fingerprint.machine;
    assert!(machine.contains("core"), "{machine}");
    let b = result(&rig, "b/load-steady-1.json");
    // Cancelled before the first answer, it has no version.
    let mut versions = b.fingerprint.versions.values();
    assert!(
        versions.all(|version| version == "v0.0.1"),
        "{:?}",
        b.fingerprint
    );
    assert_eq!(b.ended, Ended::Interrupted);
    assert_eq!(report(&rig)["verdict"], "interrupted");
    rig.run(&["perf", "--target", "local", "--ab", "v2.1.0", "v0.0.2"])
        .expect(2, "the local target has no version \"v0.0.2\"");
}

/// Repeats the one stored run, so that the baseline has five.
fn make_it_five(baseline: &Path) {
    let text = fs::read_to_string(baseline).unwrap();
    let mut stored: Value = serde_json::from_str(&text).unwrap();
    let run = stored["runs"][0].clone();
    stored["runs"] = vec![run; 5].into();
    fs::write(baseline, stored.to_string()).unwrap();
}

/// Makes the service that answers quotes slow.
fn plant_latency(environment: &Value, millis: u32) {
    let parts = environment["parts"].as_array().unwrap();
    let mut parts = parts.iter();
    let part = parts.find(|part| part["name"] == "market-data-service");
    let address = part.unwrap()["metrics"].as_str().unwrap();
    let faults = format!("{{\"latency_ms\": {millis}}}");
    let length = faults.len();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "PUT /faults HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{faults}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
