//! Regressions on a real platform: one that is planted is found, and versions that are brought
//! up in turn are taken down.

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

/// As short as a run may be that is compared, its warm-up of two seconds included.
fn rig() -> Rig {
    Rig::new().change(
        "{ rate = 90, seconds = 150 }",
        "{ rate = 90, seconds = 13 }",
    )
}

/// A result that a command kept.
fn kept(rig: &Rig, file: &str) -> LoadResult {
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
fn what_became_slower_than_its_baseline_regresses() {
    let rig = rig();
    let environment = rig.up();
    let baseline = rig.home().join("main.json");
    let file = baseline.to_str().unwrap();
    let saved = rig.run(&["perf", "--save", file, "--runs", "1"]);
    if kept(&rig, "a/load-steady-1.json")
        .generator
        .bottleneck
        .is_some()
    {
        // On a machine that does much else beside it, it must say so.
        saved.expect_code(5);
        rig.run(&["down"]).expect_code(0);
        return;
    }
    saved
        .expect_code(0)
        .expect_words("1 runs of this version, 5 are needed");
    rig.run(&["perf", "--against", file])
        .expect_code(5)
        .expect_words("the baseline has 1 runs, 5 are needed");
    make_it_five(&baseline);
    plant_latency(&environment, 60);
    let before = fs::read(&baseline).unwrap();
    let ended = rig.run(&["perf", "--against", file, "--save", file]);
    if kept(&rig, "b/load-steady-1.json")
        .generator
        .bottleneck
        .is_some()
    {
        ended.expect_code(5);
    } else {
        ended
            .expect_code(98)
            .expect_words("regressed: ")
            .expect_words("not stored: it regressed");
        let rows = ended.stdout.lines();
        let slower = rows.filter(|it| it.contains(" p50 ") && it.contains(" regressed "));
        assert_eq!(slower.count(), 3, "{}", ended.stdout);
        let report = report(&rig);
        assert_eq!(report["comparisons"][0]["verdict"], "regressed");
        assert_eq!(report["verdict"], "failed");
        assert_eq!(fs::read(&baseline).unwrap(), before);
    }
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn versions_are_brought_up_in_turn_and_called_off_they_are_gone() {
    let rig = rig();
    let versions = rig.home().join("harness/versions");
    fs::create_dir_all(&versions).unwrap();
    let other = versions.join("v0.0.1");
    // What is started has few of our variables.
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    };
    // The same program: it is built by the time that this is started.
    let script = format!(
        "#!/bin/sh\nexec \"{}/release/platform\" \"$@\"\n",
        target.display()
    );
    fs::write(&other, script).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    let mut course = rig.spawn(&["perf", "--target", "local", "--ab", "v2.1.0", "v0.0.1"]);
    eventually("B is under load", UP, || {
        let events = rig.events("perf");
        let loads = events
            .iter()
            .filter(|it| it["event"] == "note" && it["stage"] == "load")
            .filter(|it| it["text"].as_str().unwrap().starts_with("profile steady"));
        (loads.count() == 2).then_some(()).ok_or(course.stderr())
    });
    let traces = rig.traces();
    course.says("requests, 0 failed");
    course.signal(Signal::SIGINT);
    let ended = course.ends_within(UP);
    ended
        .expect_code(130)
        .expect_words("1 of 14 runs were made");
    traces.are_gone(&rig);
    let a = kept(&rig, "a/load-steady-1.json");
    assert_eq!(a.fingerprint.versions["market-data-service"], "v2.1.0");
    assert_eq!(a.ended, Ended::Whole);
    assert!(
        a.fingerprint.machine.contains("core"),
        "{}",
        a.fingerprint.machine
    );
    let b = kept(&rig, "b/load-steady-1.json");
    // Nobody has answered where it was called off that soon.
    let mut versions = b.fingerprint.versions.values();
    assert!(versions.all(|it| it == "v0.0.1"), "{:?}", b.fingerprint);
    assert_eq!(b.ended, Ended::Interrupted);
    assert_eq!(report(&rig)["verdict"], "interrupted");
    rig.run(&["perf", "--target", "local", "--ab", "v2.1.0", "v0.0.2"])
        .expect_code(2)
        .expect_words("the local target has no version \"v0.0.2\"");
}

/// The one stored run as if it had been seen five times.
fn make_it_five(baseline: &Path) {
    let text = fs::read_to_string(baseline).unwrap();
    let mut stored: Value = serde_json::from_str(&text).unwrap();
    let run = stored["runs"][0].clone();
    stored["runs"] = vec![run; 5].into();
    fs::write(baseline, stored.to_string()).unwrap();
}

/// Has the service that answers quotes be so slow from now on.
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
