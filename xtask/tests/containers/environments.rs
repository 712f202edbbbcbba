//! Environments that stay up: several at the same time, their names, and how each one ends.

mod mount;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use nix::sys::signal::Signal;

use crate::rig::{E2E, Rig, SECONDS};

#[test]
fn up_again_changes_nothing() {
    let rig = Rig::new();
    let first = rig.up();
    let traces = rig.traces();
    let again = rig.run(&["up", "--json"]);
    again
        .expect(0, &format!("{} is up", rig.name))
        .expect_stderr("cargo xtask smoke --name");
    let again: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["supervisor"], first["supervisor"]);
    rig.run(&["status"]).expect(0, ": up");
    rig.run(&["smoke"]).expect_code(0);
    rig.run(&["down"]).expect(0, "is down");
    traces.are_gone(&rig);
    rig.run(&["down"]).expect(0, "nothing was up");
    rig.run(&["smoke"]).expect(3, "is not up");
}

const POSTGRES: &str = "[backing_services.postgres]";

#[test]
fn the_platform_has_the_database_and_the_user_that_it_names() {
    let keys = format!("{POSTGRES}\ndatabase = \"shop-db\"\nuser = \"ada\"");
    let rig = Rig::new().change(POSTGRES, &keys);
    rig.run(&E2E)
        .expect(0, "ok an order moves cash and position exactly");
}

#[test]
fn programs_of_another_version_are_named() {
    let rig = Rig::new().change(POSTGRES, &format!("{POSTGRES}\nversion = \"1\""));
    rig.run(&["up"])
        .expect(3, "Postgres is not available: no container is used, and ")
        .expect_stderr("/postgres is postgres (PostgreSQL) ")
        .expect_stderr(", not 1");
}

#[test]
fn scenarios_are_run_by_name_against_what_is_up() {
    let rig = Rig::new();
    let run = ["scenario", "run", "smoke"];
    rig.run(&run).expect(3, "is not up");
    rig.up();
    let traces = rig.traces();
    rig.run(&run)
        .expect(0, "smoke: the platform answers")
        .expect_stderr("checks passed");
    let finished = |event: &serde_json::Value| {
        event["event"] == "scenario-finished" && event["scenario"] == "smoke"
    };
    let events = rig.events("scenario");
    assert_eq!(events.iter().filter(|event| finished(event)).count(), 1);
    assert_eq!(events.last().unwrap()["exit_code"], 0);
    // An unknown name: none is run.
    rig.run(&["scenario", "run", "smoke", "smokey"])
        .expect(2, "did you mean \"smoke\"?");
    let market = rig.find("serve market-data").unwrap();
    market.signal(Signal::SIGKILL);
    rig.run(&run).expect(1, "checks failed");
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
}

#[test]
fn a_name_in_use_is_refused_and_its_holder_is_named() {
    let rig = Rig::new();
    let mut first = rig.spawn(&E2E);
    first.paused_when_up(|| {
        let holder = format!("process {}", rig.supervisor().pid);
        for verb in ["up", "e2e"] {
            let second = rig.spawn(&[verb]).ends_within(SECONDS);
            second.expect(3, "is in use since").expect_stderr(&holder);
        }
    });
    let traces = rig.traces();
    first.ends_within(SECONDS).expect_code(0);
    traces.are_gone(&rig);
}

#[test]
fn a_name_that_is_coming_up_is_refused_too() {
    let rig = Rig::new();
    let mut first = rig.spawn(&["up"]);
    first.starts("initdb --username").signal(Signal::SIGSTOP);
    first.reaches("provision");
    let holder = format!("process {}", rig.supervisor().pid);
    let second = rig.spawn(&["up"]).ends_within(SECONDS);
    second.expect(3, &holder);
    rig.run(&["status"]).expect(0, "starting or stopping");
    rig.run(&["down"]).expect(0, "is down");
    first
        .ends_within(SECONDS)
        .expect(3, "was taken down from elsewhere");
    rig.traces().are_gone(&rig);
}

#[test]
fn several_environments_are_up_at_the_same_time() {
    let one = Rig::new();
    let other = Rig::new().at_home(one.home());
    thread::scope(|scope| {
        scope.spawn(|| one.up());
        scope.spawn(|| other.up());
    });
    let (traces_of_one, traces_of_other) = (one.traces(), other.traces());
    one.run(&["down"]).expect_code(0);
    assert!(one.environment().is_none());
    other.run(&["smoke"]).expect_code(0);
    // Two commands with the same home.
    thread::scope(|scope| {
        for rig in [&one, &other] {
            scope.spawn(|| rig.run(&["down", "--all"]).expect_code(0).status);
        }
    });
    traces_of_one.are_gone(&one);
    traces_of_other.are_gone(&other);
}

#[test]
fn down_while_a_run_uses_it_ends_both_and_reports_it() {
    let rig = Rig::new();
    let mut running = rig.spawn(&E2E);
    running.hangs_in_verify();
    let traces = rig.traces();
    rig.run(&["down"]).expect(0, "is down");
    running
        .ends_within(SECONDS)
        .expect(3, "was taken down from elsewhere");
    traces.are_gone(&rig);
}

#[test]
fn a_run_that_keeps_its_environment_and_is_killed_before_keeps_nothing() {
    let rig = Rig::new();
    let mut running = rig.spawn(&[&E2E[..], &["--keep"]].concat());
    let mut traces = None;
    running.paused_when_up(|| traces = Some(rig.traces()));
    running.signal(Signal::SIGKILL);
    assert_eq!(running.ends_within(SECONDS).status.code(), None);
    traces.unwrap().are_gone(&rig);
}

#[test]
fn what_a_killed_supervisor_leaves_is_shown_and_removed() {
    let rig = Rig::new();
    rig.up();
    let traces = rig.traces();
    // Stopped processes, too, which do not notice that their owner has died.
    for process in ["serve frontend-app", "postgres -D"] {
        rig.find(process).unwrap().signal(Signal::SIGSTOP);
    }
    rig.kill_supervisor();
    rig.run(&["status"])
        .expect(1, "dead")
        .expect_stderr("cargo xtask down --all");
    rig.run(&["down", "--all"]).expect_code(0);
    traces.are_gone(&rig);
    rig.run(&["status"]).expect(0, "nothing is up");
}

#[test]
fn the_next_start_removes_what_a_killed_supervisor_leaves() {
    let rig = Rig::new();
    rig.up();
    let traces = rig.traces();
    rig.find("postgres -D").unwrap().signal(Signal::SIGKILL);
    rig.supervisor().signal(Signal::SIGKILL);
    rig.run(&E2E).expect_code(0);
    traces.are_gone(&rig);
}

#[test]
fn a_service_may_be_any_program() {
    let rig = Rig::new().change(
        "[services.frontend-app]",
        "[services.frontend-app.local]\n\
         run = [\"python3\", \"-m\", \"http.server\", \"{port}\", \"--bind\", \"127.0.0.1\"]\n\
         directory = \"fixtures/platform/frontend\"\n\n[services.frontend-app]",
    );
    rig.up();
    let answer = answer(&rig, "/page.html");
    assert!(answer.contains("<title>TRII"), "{answer}");
    rig.run(&["status"]).expect_code(0);
    rig.run(&["down"]).expect_code(0);
}

/// Returns the site's answer.
fn answer(rig: &Rig, path: &str) -> String {
    let environment = rig.typed_environment();
    let address = environment.entry.address.unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        environment.site_host
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_command_builds_the_platform_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("index.html");
    let serve = format!(
        "run = [\"python3\", \"-m\", \"http.server\", \"{{port}}\", \"--bind\", \"127.0.0.1\", \
         \"--directory\", \"{}\"]",
        folder.path().display()
    );
    let rig = built_by(&format!("echo {{version}} made > {}", page.display()))
        .change("prepare = [", "# prepare = [")
        .change("run = [\"{program}\", \"serve\", \"{service}\"]", &serve)
        .change("ready = \"http", "# ready = \"http");
    rig.up();
    let answer = answer(&rig, "/");
    assert!(answer.ends_with("v2.1.0 made\n"), "{answer}");
    rig.run(&["down"]).expect_code(0);
}

#[test]
fn a_command_that_does_not_build_the_platform_is_shown_with_its_output() {
    let rig = built_by("echo no compiler here >&2; exit 7")
        .change("prepare = [\"{program}\"", "prepare = [\"true\"")
        .change("run = [\"{program}\"", "run = [\"true\"");
    rig.run(&E2E)
        .expect(3, "the build of the platform ended")
        .expect_stderr("no compiler here");
}

/// A rig whose platform is built by a script.
fn built_by(script: &str) -> Rig {
    Rig::new()
        .change(
            "cargo_package = \"platform\"",
            &format!("build = [\"sh\", \"-c\", \"{script}\"]"),
        )
        .change("blue_green = true", "")
}
