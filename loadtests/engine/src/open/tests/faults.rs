//! Faults are counted and reported, and nothing hangs.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use base::wait::Observation;
use prober::ProbeTarget;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::keep_running;
use super::test_server::Server;
use crate::journey::WrittenJourney;
use crate::open::{LoadPlan, LoadRun, OpenError, Progress, RateStage, Session, run};
use crate::result::{Ended, LoadResult};

fn plan(url: String, path: &str, rate: f64, takes: Duration) -> LoadPlan {
    let stage = RateStage::constant(rate, takes);
    let journey = WrittenJourney::get(path);
    LoadPlan::of(ProbeTarget::of(url), vec![stage], vec![journey])
}

fn short_plan(server: &Server, path: &str) -> LoadPlan {
    let takes = Duration::from_millis(400);
    let mut plan = plan(format!("http://{}", server.address), path, 250.0, takes);
    plan.timeout = Duration::from_secs(60);
    plan
}

async fn run_to_the_end(plan: &LoadPlan) -> LoadRun {
    run(plan, Session::default(), keep_running).await.unwrap()
}

#[tokio::test]
async fn a_target_that_is_down_is_reported_and_counted() {
    let address = Server::plain().await.address;
    let takes = Duration::from_millis(200);
    let run = run_to_the_end(&plan(format!("http://{address}"), "/quotes", 500.0, takes)).await;
    let whole = run.result.whole();
    assert_eq!((whole.requests, whole.failed), (100, 100));
    let endpoint = &run.result.endpoints["GET /quotes"];
    let refused = ("connection refused".to_owned(), 100);
    assert_eq!(endpoint.failures, [refused].into());
}

#[tokio::test]
async fn requests_after_the_target_dies_fail() {
    let server = Server::plain().await;
    let mut plan = short_plan(&server, "/quotes");
    plan.stages[0].takes = Duration::from_secs(60);
    let session = Session::default();
    let stop = session.stop.clone();
    let dies = async {
        wait_for_requests(&server, 20).await;
        drop(server);
    };
    // Stops the run at the first failure.
    let stop_at_failure = |progress: Progress<'_>| {
        let endpoints = progress.endpoints.values();
        if endpoints.map(|one| one.whole().failed).sum::<u64>() > 0 {
            stop.cancel();
        }
        ControlFlow::Continue(())
    };
    let (run, ()) = tokio::join!(run(&plan, session, stop_at_failure), dies);
    let run = run.unwrap();
    let whole = run.result.whole();
    assert!(whole.failed > 0 && whole.requests > whole.failed);
}

/// Waits until the server has received this many requests.
async fn wait_for_requests(server: &Server, count: u64) {
    let wait = base::wait::until(
        "the server gets requests",
        Duration::from_secs(60),
        Duration::from_millis(5),
        async || match server.requests() {
            requests if requests >= count => Observation::Ready(()),
            requests => Observation::NotYet(format!("{requests} requests")),
        },
    );
    wait.await.unwrap();
}

#[tokio::test]
async fn error_statuses_are_counted_as_failures() {
    let server = Server::plain().await;
    let run = run_to_the_end(&short_plan(&server, "/500")).await;
    assert_eq!(run.result.whole().error_share(), Some(1.0));
    assert_eq!(
        run.result.endpoints["GET /500"].statuses,
        [(500, 100)].into()
    );
}

#[tokio::test]
async fn a_request_that_times_out_fails_with_the_timeout_as_latency() {
    let server = Server::plain().await;
    let mut plan = short_plan(&server, "/hangs");
    plan.timeout = Duration::from_millis(150);
    let run = run_to_the_end(&plan).await;
    let endpoint = &run.result.endpoints["GET /hangs"];
    assert_eq!(endpoint.failures, [("timed out".to_owned(), 100)].into());
    let fastest = endpoint.whole().latency.quantile(0.0).unwrap();
    assert!(fastest >= 149_000, "{fastest}");
}

#[tokio::test]
async fn one_arrival_is_a_run_and_none_is_refused() {
    let server = Server::plain().await;
    let second = Duration::from_secs(1);
    let url = format!("http://{}", server.address);
    let run_of_one = run_to_the_end(&plan(url.clone(), "/quotes", 0.5, second)).await;
    assert_eq!(run_of_one.result.whole().requests, 1);
    for rate in [0.0, f64::NAN] {
        let none = plan(url.clone(), "/", rate, second);
        let refused = run(&none, Session::default(), keep_running).await;
        assert!(matches!(refused, Err(OpenError::Plan(_))));
    }
}

#[tokio::test]
async fn a_run_that_is_interrupted_immediately_has_no_samples() {
    let server = Server::plain().await;
    let session = Session::default();
    session.stop.cancel();
    let run = run(&short_plan(&server, "/quotes"), session, keep_running)
        .await
        .unwrap();
    assert_eq!(run.result.ended, Ended::Interrupted);
    assert!(run.result.endpoints.is_empty());
    assert_eq!(run.result.seconds(), 0.0);
    // No number is NaN, which JSON does not have.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("load-stress.json");
    run.result.write(&file).unwrap();
    assert_eq!(LoadResult::read(&file).unwrap(), run.result);
}

#[tokio::test]
async fn an_interrupted_run_drains_within_its_deadline() {
    let server = Server::plain().await;
    let mut plan = short_plan(&server, "/hangs");
    plan.stages[0].takes = Duration::from_secs(60);
    plan.max_in_flight = 50;
    plan.drain = Duration::from_millis(50);
    let stop = CancellationToken::new();
    let session = Session {
        stop: stop.clone(),
        ..Session::default()
    };
    let interrupts = async {
        wait_for_requests(&server, 50).await;
        sleep(Duration::from_millis(100)).await;
        stop.cancel();
        Instant::now()
    };
    let (run, stopped) = tokio::join!(run(&plan, session, keep_running), interrupts);
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
    let mut plan = short_plan(&server, "/500");
    plan.stages[0].takes = Duration::from_secs(60);
    let abort = |progress: Progress<'_>| match progress.endpoints.is_empty() {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break("error share < 1 %".to_owned()),
    };
    let run = run(&plan, Session::default(), abort).await.unwrap();
    let threshold = "error share < 1 %".to_owned();
    assert_eq!(run.result.ended, Ended::Aborted { threshold });
    assert!(run.result.seconds() < 10.0);
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_nothing_behind() {
    let server = Server::plain().await;
    let mut plan = short_plan(&server, "/quotes");
    plan.stages[0].takes = Duration::from_secs(60);
    let cut_off = tokio::time::timeout(Duration::from_millis(200), run_to_the_end(&plan)).await;
    assert!(cut_off.is_err());
    // Its threads were joined: there are no new connections.
    let connections = server.connections();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(server.connections(), connections);
}

#[tokio::test]
async fn a_bound_beyond_the_file_limit_is_refused() {
    let server = Server::plain().await;
    let mut plan = short_plan(&server, "/quotes");
    plan.max_in_flight = usize::MAX / 2;
    let refused = run(&plan, Session::default(), keep_running).await;
    assert!(matches!(refused, Err(OpenError::Files(_))));
}

#[tokio::test]
async fn names_beyond_the_limit_are_counted_as_other() {
    let server = Server::plain().await;
    let mut plan = short_plan(&server, "/");
    let named = (0..1000).map(|number| WrittenJourney::get(&format!("/quotes/{number}")));
    plan.journeys = named.collect();
    plan.stages = vec![RateStage::constant(4000.0, Duration::from_millis(500))];
    plan.max_in_flight = 200;
    let endpoints = run_to_the_end(&plan).await.result.endpoints;
    assert!(endpoints.len() <= 501, "{}", endpoints.len());
    assert!(endpoints["(other)"].whole().requests > 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_raw_log_that_cannot_be_created_stops_the_run_before_it_starts() {
    let server = Server::plain().await;
    let session = Session {
        raw_log: Some("/dev/full".into()),
        ..Session::default()
    };
    let refused = run(&short_plan(&server, "/quotes"), session, keep_running).await;
    assert!(matches!(refused, Err(OpenError::RawLog(_))));
    assert_eq!(server.connections(), 0);
}

/// A closed pipe stands for a full disk: writing fails during the run.
#[tokio::test]
async fn a_raw_log_error_during_the_run_is_in_its_result() {
    let (server, folder) = (Server::plain().await, tempfile::tempdir().unwrap());
    let pipe = folder.path().join("raw.log");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&pipe, mode).unwrap();
    let reader = {
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
    let run = run(&short_plan(&server, "/quotes"), session, keep_running)
        .await
        .unwrap();
    assert_eq!(reader.await.unwrap(), 8);
    assert_eq!(run.result.whole().requests, 100);
    let error = run.raw_log.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("cannot write the raw log"), "{error}");
}
