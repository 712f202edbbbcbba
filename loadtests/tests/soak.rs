//! A shortened soak: the engine's memory does not grow with the number of requests it has sent.
//! It is its own program, so that no other test uses its memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::ops::ControlFlow;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use load_engine::journey::WrittenJourney;
use loadtests::open::{LoadPlan, Progress, RateStage, Session, run};
use prober::ProbeTarget;

/// Seconds in which connections are made and buffers grow to their size.
const WARM_UP: usize = 3;

/// A block's counts are kept: some KiB a second. What is kept of each request would be more.
const BLOCKS: u64 = 2 << 20;
const A_REQUEST: u64 = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_whatever_was_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/", get(async || "hello"));
    tokio::spawn(async { axum::serve(listener, router).await });
    let stage = RateStage::constant(2_000.0, Duration::from_secs(9));
    let journeys = vec![WrittenJourney::get("/")];
    let mut plan = LoadPlan::of(ProbeTarget::of(url), vec![stage], journeys);
    // So few that a machine which is busy with other things soon has them all.
    plan.max_in_flight = 50;
    let (mut answered, mut seen) = (0, Vec::new());
    let on_progress = |progress: Progress<'_>| {
        let endpoints = progress.endpoints.values();
        answered += endpoints.map(|one| one.whole().requests).sum::<u64>();
        seen.push((answered, resident()));
        ControlFlow::Continue(())
    };
    let result = run(&plan, Session::default(), on_progress).await;
    let whole = result.unwrap().result.whole();
    assert_eq!((whole.requests, whole.failed), (answered, 0));
    let [(before, at_first), .., (after, at_last)] = seen[WARM_UP..] else {
        panic!("a soak of {} seconds", seen.len());
    };
    let grown = at_last.saturating_sub(at_first);
    let allowed = BLOCKS + A_REQUEST * (after - before);
    assert!(grown <= allowed, "{grown} bytes more, by second: {seen:?}");
}

/// What this process holds, in bytes (proc_pid_status(5)).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let kib = lines.find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix(" kB"));
    kib.unwrap().trim().parse::<u64>().unwrap() * 1024
}
