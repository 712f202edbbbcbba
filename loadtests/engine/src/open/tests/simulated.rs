//! Runs against a server in memory, with a paused clock: the measurements are exact, and the wall
//! clock may be set during the run.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prober::ProbeTarget;
use tokio::io::duplex;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::journey::WrittenJourney;
use crate::open::busy::Busy;
use crate::open::connection::Dial;
use crate::open::journeys::PreparedJourneys;
use crate::open::timer::Timer;
use crate::open::totals::Totals;
use crate::open::worker::{Job, WorkerShare};
use crate::open::{LoadPlan, RateStage, Schedule};
use crate::result::Block;

const NAME: &str = "GET /quotes";

/// The clock advances only when all tasks wait.
fn with_paused_clock(test: impl Future<Output = ()>) {
    let mut builder = Builder::new_current_thread();
    let paused = builder.enable_all().start_paused(true);
    let runtime = paused.build_local(LocalOptions::default()).unwrap();
    runtime.block_on(test);
}

/// A server that answers immediately, except that it stalls from `from` to `until`.
fn stalling(from: Instant, until: Instant) -> Dial {
    Arc::new(move || {
        Box::pin(async move {
            let (ours, theirs) = duplex(64 * 1024);
            let answer = service_fn(move |_: Request<_>| async move {
                if Instant::now() >= from {
                    sleep_until(until).await;
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
            });
            // The server stops with its client.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(theirs), answer));
            Ok(Box::new(ours) as _)
        })
    })
}

/// Sends 1,000 requests/s for 10 s to a server that stalls from second 4 to second 6.
async fn stalled(bound: usize, stop: CancellationToken, drain: Duration) -> Totals {
    let quotes = WrittenJourney::get("/quotes");
    sent(quotes, 1000.0, bound, stop, drain).await
}

/// Runs a journey for 10 s at this rate, on a server that stalls from second 4 to second 6.
async fn sent(
    journey: WrittenJourney,
    rate: f64,
    bound: usize,
    stop: CancellationToken,
    drain: Duration,
) -> Totals {
    let begin = Instant::now();
    let stage = RateStage::constant(rate, Duration::from_secs(10));
    let target = ProbeTarget::of("http://quotes.test");
    let plan = LoadPlan::of(target, vec![stage], vec![journey]);
    let (from, until) = (Duration::from_secs(4), Duration::from_secs(6));
    let job = Arc::new(Job {
        journeys: PreparedJourneys::of(&plan).unwrap(),
        schedule: Schedule::new(&plan.stages).unwrap(),
        connections: plan.connections,
        timeout: plan.timeout,
        drain,
        block: Duration::from_secs(1),
        workers: 1,
        headers: prober::IdentityHeaders::default(),
        dial: stalling(begin + from, begin + until),
        begin,
        stop,
    });
    let mut totals = Totals::of(job.journeys.names());
    let (counts, mut counted) = unbounded_channel();
    let share = WorkerShare {
        job,
        number: 0,
        bound,
        log: None,
        counts,
    };
    share.work(Timer::Coarse, Busy::by(|| Duration::ZERO)).await;
    while let Ok(counts) = counted.try_recv() {
        totals.add(counts);
    }
    totals
}

async fn stop_after_5_seconds(stop: &CancellationToken) {
    sleep_until(Instant::now() + Duration::from_secs(5)).await;
    stop.cancel();
}

#[test]
fn a_stall_delays_every_request_that_is_due_during_it() {
    with_paused_clock(async {
        let totals = stalled(5000, CancellationToken::new(), Duration::ZERO).await;
        let endpoint = &totals.endpoints[NAME];
        let whole = endpoint.whole();
        assert_eq!(
            (whole.requests, whole.dropped, whole.failed),
            (10_000, 0, 0)
        );
        assert_eq!(whole.received, 50_000);
        for (quantile, seconds) in [(0.90, 1.0), (0.95, 1.5), (0.99, 1.9)] {
            let measured = whole.latency.quantile(quantile).unwrap() as f64 / 1e6;
            assert!(
                (measured / seconds - 1.0).abs() < 0.02,
                "{quantile}: {measured} s"
            );
        }
        // An arrival counts in the block in which it was due.
        let blocks = endpoint.blocks.values();
        let requests: Vec<u64> = blocks.map(|block| block.requests).collect();
        assert_eq!(requests, [1000; 10]);
        let median = |block: u32| endpoint.blocks[&block].latency.quantile(0.5).unwrap();
        assert!(median(3) < 1000 && median(6) < 1000);
        assert!(median(4).abs_diff(1_500_000) < 15_000, "{}", median(4));
        assert_eq!(totals.lag.count(), 10_000);
        assert!(totals.lag.quantile(1.0).unwrap() < 1000);
    });
}

#[test]
fn at_the_bound_arrivals_are_dropped_and_counted() {
    with_paused_clock(async {
        let totals = stalled(500, CancellationToken::new(), Duration::ZERO).await;
        let endpoint = &totals.endpoints[NAME];
        let dropped = |block: u32| endpoint.blocks[&block].dropped;
        assert_eq!((dropped(3), dropped(4), dropped(5)), (0, 500, 1000));
        // One is due at the moment when the server continues.
        assert!(dropped(6) <= 1 && dropped(7) == 0);
        let whole = endpoint.whole();
        assert_eq!(whole.requests + whole.dropped, 10_000);
        assert_eq!(totals.lag.count(), 10_000);
    });
}

#[test]
fn requests_in_flight_drain_within_the_deadline() {
    with_paused_clock(async {
        let stop = CancellationToken::new();
        let drained = stalled(5000, stop.clone(), Duration::from_secs(3));
        let (totals, ()) = tokio::join!(drained, stop_after_5_seconds(&stop));
        let whole = totals.endpoints[NAME].whole();
        assert!(whole.requests.abs_diff(5000) <= 1, "{}", whole.requests);
        assert_eq!(whole.failed, 0);
    });
}

#[test]
fn requests_that_do_not_drain_in_time_are_counted_as_failed() {
    with_paused_clock(async {
        let stop = CancellationToken::new();
        let begin = Instant::now();
        let drained = stalled(5000, stop.clone(), Duration::from_millis(250));
        let (totals, ()) = tokio::join!(drained, stop_after_5_seconds(&stop));
        let endpoint = &totals.endpoints[NAME];
        let whole = endpoint.whole();
        assert!(whole.requests.abs_diff(5000) <= 1, "{}", whole.requests);
        assert!(whole.failed.abs_diff(1000) <= 1, "{}", whole.failed);
        assert_eq!(
            endpoint.failures["not answered before the end"],
            whole.failed
        );
        assert_eq!(whole.latency.count(), whole.requests);
        assert!((5_249..5_300).contains(&begin.elapsed().as_millis()));
    });
}

/// Two requests, and a second between them.
fn pair() -> WrittenJourney {
    let text = "GET {{api}}/quotes\nHTTP 200\n\nGET {{api}}/history\nHTTP 200\n";
    let mut pair = WrittenJourney::of("pair", text);
    pair.thinks = Duration::from_secs(1)..=Duration::from_secs(1);
    pair
}

#[test]
fn a_request_that_follows_is_due_when_it_is_sent() {
    with_paused_clock(async {
        let drain = Duration::from_secs(5);
        let totals = sent(pair(), 10.0, 5000, CancellationToken::new(), drain).await;
        let [first, second] = [NAME, "GET /history"].map(|name| totals.endpoints[name].whole());
        assert_eq!((first.requests, second.requests), (100, 100));
        assert_eq!((first.arrivals, second.arrivals), (100, 0));
        assert_eq!(first.failed + first.dropped + second.failed, 0);
        assert_eq!(totals.lag.count(), 100, "only arrivals have a lag");
        // Of the arrivals of seconds 4 and 5, the first request waits. Those of second 3 think until
        // then, and their second request waits.
        let is_slow = |block: &Block, q| block.latency.quantile(q).unwrap() > 50_000;
        assert!(!is_slow(&first, 0.75) && is_slow(&first, 0.85));
        assert!(!is_slow(&second, 0.85) && is_slow(&second, 0.95));
    });
}

#[test]
fn an_arrival_is_in_flight_while_its_user_thinks() {
    with_paused_clock(async {
        let drain = Duration::from_secs(5);
        let totals = sent(pair(), 10.0, 5, CancellationToken::new(), drain).await;
        let first = totals.endpoints[NAME].whole();
        assert!(first.dropped > 40, "{}", first.dropped);
        assert_eq!(first.requests + first.dropped, 100);
        let second = totals.endpoints["GET /history"].whole();
        assert_eq!((second.requests, second.dropped), (first.requests, 0));
    });
}

#[test]
fn after_the_end_no_request_follows_later_than_the_drain() {
    with_paused_clock(async {
        let mut patient = pair();
        patient.thinks = Duration::from_secs(3600)..=Duration::from_secs(3600);
        let begin = Instant::now();
        let drain = Duration::from_secs(5);
        let totals = sent(patient, 10.0, 5000, CancellationToken::new(), drain).await;
        assert!(
            begin.elapsed() < Duration::from_secs(16),
            "{:?}",
            begin.elapsed()
        );
        assert_eq!(totals.endpoints[NAME].whole().requests, 100);
        assert!(!totals.endpoints.contains_key("GET /history"));
    });
}

#[test]
fn an_interrupted_run_does_not_wait_for_those_who_think() {
    with_paused_clock(async {
        let mut patient = pair();
        patient.thinks = Duration::from_secs(8)..=Duration::from_secs(8);
        let stop = CancellationToken::new();
        let begin = Instant::now();
        let drained = sent(patient, 10.0, 5000, stop.clone(), Duration::from_secs(3));
        let (totals, ()) = tokio::join!(drained, stop_after_5_seconds(&stop));
        assert!(
            begin.elapsed() < Duration::from_secs(9),
            "{:?}",
            begin.elapsed()
        );
        assert!(totals.endpoints[NAME].whole().requests.abs_diff(50) <= 1);
        assert_eq!(totals.endpoints[NAME].whole().failed, 0);
        assert!(!totals.endpoints.contains_key("GET /history"));
    });
}
