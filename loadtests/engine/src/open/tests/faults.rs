//! What goes wrong, is counted and said, and hangs nothing.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use harness::wait::Observation;
use prober::Target;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::server::Server;
use crate::open::{OpenError, Plan, Progress, Run, Session, Stage, Template, run};
use crate::result::{Ended, LoadResult};

fn plan(url: String, path: &str, rate: f64, takes: Duration) -> Plan {
    let stage = Stage::constant(rate, takes);
    Plan::of(Target::of(url), vec![stage], vec![Template::get(path)])
}

fn of(server: &Server, path: &str) -> Plan {
    let takes = Duration::from_millis(400);
    let mut plan = plan(format!("http://{}", server.address), path, 250.0, takes);
    plan.timeout = Duration::from_secs(60);
    plan
}

async fn ran(plan: &Plan) -> Run {
    let go_on = |_: Progress<'_>| ControlFlow::Continue(());
    run(plan, Session::default(), go_on).await.unwrap()
}

#[tokio::test]
async fn a_target_that_is_down_is_told_of_and_counted() {
    let gone = Server::plain().await.address;
    let takes = Duration::from_millis(200);
    let run = ran(&plan(format!("http://{gone}"), "/quotes", 500.0, takes)).await;
    let whole = run.result.whole();
    assert_eq!((whole.requests, whole.failed), (100, 100));
    let endpoint = &run.result.endpoints["GET /quotes"];
    let refused = ("connection refused".to_owned(), 100);
    assert_eq!(endpoint.failures, [refused].into());
}

#[tokio::test]
async fn a_target_that_dies_fails_what_comes_after() {
    let server = Server::plain().await;
    let mut plan = of(&server, "/quotes");
    plan.stages[0].takes = Duration::from_secs(60);
    let session = Session::default();
    let stop = session.stop.clone();
    let dies = async {
        asked(&server, 20).await;
        drop(server);
    };
    // It was well before; once it is not, that is the end.
    let go_on = |progress: Progress<'_>| {
        let endpoints = progress.endpoints.values();
        if endpoints.map(|one| one.whole().failed).sum::<u64>() > 0 {
            stop.cancel();
        }
        ControlFlow::Continue(())
    };
    let (run, ()) = tokio::join!(run(&plan, session, go_on), dies);
    let run = run.unwrap();
    let whole = run.result.whole();
    assert!(whole.failed > 0 && whole.requests > whole.failed);
}

/// Waits until the server was asked so often.
async fn asked(server: &Server, times: u64) {
    let (most, often) = (Duration::from_secs(60), Duration::from_millis(5));
    let wait = harness::wait::until("the server is asked", most, often, async || {
        match server.asked() {
            asked if asked >= times => Observation::Ready(()),
            asked => Observation::NotYet(format!("{asked} times")),
        }
    });
    wait.await.unwrap();
}

#[tokio::test]
async fn errors_alone_are_answers_and_failures() {
    let server = Server::plain().await;
    let run = ran(&of(&server, "/500")).await;
    assert_eq!(run.result.whole().error_share(), Some(1.0));
    assert_eq!(
        run.result.endpoints["GET /500"].statuses,
        [(500, 100)].into()
    );
}

#[tokio::test]
async fn what_times_out_is_a_failure_with_the_time_it_had() {
    let server = Server::plain().await;
    let mut plan = of(&server, "/hangs");
    plan.timeout = Duration::from_millis(150);
    let run = ran(&plan).await;
    let endpoint = &run.result.endpoints["GET /hangs"];
    assert_eq!(endpoint.failures, [("timed out".to_owned(), 100)].into());
    let fastest = endpoint.whole().latency.quantile(0.0).unwrap();
    assert!(fastest >= 149_000, "{fastest}");
}

#[tokio::test]
async fn one_arrival_is_a_run_and_none_is_no_plan() {
    let server = Server::plain().await;
    let second = Duration::from_secs(1);
    let url = format!("http://{}", server.address);
    let run_of_one = ran(&plan(url.clone(), "/quotes", 0.5, second)).await;
    assert_eq!(run_of_one.result.whole().requests, 1);
    let go_on = |_: Progress<'_>| ControlFlow::Continue(());
    for rate in [0.0, f64::NAN] {
        let none = plan(url.clone(), "/", rate, second);
        let refused = run(&none, Session::default(), go_on).await;
        assert!(matches!(refused, Err(OpenError::Plan(_))));
    }
}

#[tokio::test]
async fn a_run_that_is_interrupted_at_once_has_no_samples() {
    let server = Server::plain().await;
    let session = Session::default();
    session.stop.cancel();
    let go_on = |_: Progress<'_>| ControlFlow::Continue(());
    let run = run(&of(&server, "/quotes"), session, go_on).await.unwrap();
    assert_eq!(run.result.ended, Ended::Interrupted);
    assert!(run.result.endpoints.is_empty());
    assert_eq!(run.result.seconds(), 0.0);
    // No number of it is none, which JSON does not have.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("load-stress.json");
    run.result.write(&file).unwrap();
    assert_eq!(LoadResult::read(&file).unwrap(), run.result);
}

#[tokio::test]
async fn an_interrupted_run_drains_within_its_deadline() {
    let server = Server::plain().await;
    let mut plan = of(&server, "/hangs");
    plan.stages[0].takes = Duration::from_secs(60);
    plan.max_in_flight = 50;
    plan.drain = Duration::from_millis(50);
    let stop = CancellationToken::new();
    let session = Session {
        stop: stop.clone(),
        ..Session::default()
    };
    let interrupts = async {
        asked(&server, 50).await;
        sleep(Duration::from_millis(100)).await;
        stop.cancel();
        Instant::now()
    };
    let go_on = |_: Progress<'_>| ControlFlow::Continue(());
    let (run, stopped) = tokio::join!(run(&plan, session, go_on), interrupts);
    assert!(stopped.elapsed() < Duration::from_secs(30));
    let result = run.unwrap().result;
    assert_eq!(result.ended, Ended::Interrupted);
    let endpoint = &result.endpoints["GET /hangs"];
    assert_eq!(endpoint.failures["not answered before the end"], 50);
    assert!(endpoint.whole().dropped > 0);
}

#[tokio::test]
async fn a_threshold_ends_the_run() {
    let server = Server::plain().await;
    let mut plan = of(&server, "/500");
    plan.stages[0].takes = Duration::from_secs(60);
    let fails = |progress: Progress<'_>| match progress.endpoints.is_empty() {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break("error share < 1 %".to_owned()),
    };
    let run = run(&plan, Session::default(), fails).await.unwrap();
    let threshold = "error share < 1 %".to_owned();
    assert_eq!(run.result.ended, Ended::Aborted { threshold });
    assert!(run.result.seconds() < 10.0);
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_nothing_behind() {
    let server = Server::plain().await;
    let mut plan = of(&server, "/quotes");
    plan.stages[0].takes = Duration::from_secs(60);
    let cut_off = tokio::time::timeout(Duration::from_millis(200), ran(&plan)).await;
    assert!(cut_off.is_err());
    // Its threads were joined: nothing connects any more.
    let connections = server.connections();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(server.connections(), connections);
}

#[tokio::test]
async fn a_bound_beyond_the_file_limit_is_refused() {
    let server = Server::plain().await;
    let mut plan = of(&server, "/quotes");
    plan.max_in_flight = usize::MAX / 2;
    let go_on = |_: Progress<'_>| ControlFlow::Continue(());
    let refused = run(&plan, Session::default(), go_on).await;
    assert!(matches!(refused, Err(OpenError::Files(_))));
}

#[tokio::test]
async fn a_thousand_names_are_five_hundred_and_the_others() {
    let server = Server::plain().await;
    let mut plan = of(&server, "/");
    let named = (0..1000).map(|number| Template::get(&format!("/quotes/{number}")));
    plan.templates = named.collect();
    plan.stages = vec![Stage::constant(4000.0, Duration::from_millis(500))];
    plan.max_in_flight = 200;
    let endpoints = ran(&plan).await.result.endpoints;
    assert!(endpoints.len() <= 501, "{}", endpoints.len());
    assert!(endpoints["(other)"].whole().requests > 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_raw_log_that_cannot_be_begun_stops_the_run_before_it_is_one() {
    let server = Server::plain().await;
    let session = Session {
        raw_log: Some("/dev/full".into()),
        ..Session::default()
    };
    let go_on = |_: Progress<'_>| ControlFlow::Continue(());
    let refused = run(&of(&server, "/quotes"), session, go_on).await;
    assert!(matches!(refused, Err(OpenError::RawLog(_))));
    assert_eq!(server.connections(), 0);
}

/// A pipe nobody reads any more stands for a disk that fills up: writing fails midway.
#[tokio::test]
async fn a_raw_log_that_fails_midway_is_in_the_runs_result() {
    let (server, folder) = (Server::plain().await, tempfile::tempdir().unwrap());
    let pipe = folder.path().join("raw.log");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&pipe, mode).unwrap();
    let reads_a_little = {
        let pipe = pipe.clone();
        tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::open(pipe).unwrap();
            std::io::Read::read(&mut file, &mut [0; 8]).unwrap()
        })
    };
    let session = Session {
        raw_log: Some(pipe),
        ..Session::default()
    };
    let go_on = |_: Progress<'_>| ControlFlow::Continue(());
    let run = run(&of(&server, "/quotes"), session, go_on).await.unwrap();
    assert_eq!(reads_a_little.await.unwrap(), 8);
    assert_eq!(run.result.whole().requests, 100);
    let error = run.raw_log.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("cannot write the raw log"), "{error}");
}
