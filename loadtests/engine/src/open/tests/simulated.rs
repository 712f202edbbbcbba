//! Against a server in memory, by a clock that stands still while anything is to be done: what
//! is measured is exact. The clock of the wall has no part in it: it may be set meanwhile.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prober::Target;
use tokio::io::duplex;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::open::busy::Busy;
use crate::open::collected::Collected;
use crate::open::line::Dial;
use crate::open::requests::Requests;
use crate::open::timer::Timer;
use crate::open::worker::{Job, Share};
use crate::open::{Plan, Schedule, Stage, Template};

const NAME: &str = "GET /quotes";

/// The clock goes on only when there is nothing else to do.
fn with_the_clock_in_hand(test: impl Future<Output = ()>) {
    let mut builder = Builder::new_current_thread();
    let paused = builder.enable_all().start_paused(true);
    let runtime = paused.build_local(LocalOptions::default()).unwrap();
    runtime.block_on(test);
}

/// A server that answers at once, but from `from` to `until`, when it stands still.
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
            // It ends with its client.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(theirs), answer));
            Ok(Box::new(ours) as _)
        })
    })
}

/// 1,000 requests/s for 10 s, of a server that is frozen from second 4 to second 6.
async fn stalled(bound: usize, stop: CancellationToken, drain: Duration) -> Collected {
    let begin = Instant::now();
    let stage = Stage::constant(1000.0, Duration::from_secs(10));
    let target = Target::of("http://quotes.test");
    let plan = Plan::of(target, vec![stage], vec![Template::get("/quotes")]);
    let (from, until) = (Duration::from_secs(4), Duration::from_secs(6));
    let job = Arc::new(Job {
        requests: Requests::of(&plan).unwrap(),
        schedule: Schedule::new(&plan.stages).unwrap(),
        connections: plan.connections,
        timeout: plan.timeout,
        drain,
        block: Duration::from_secs(1),
        workers: 1,
        dial: stalling(begin + from, begin + until),
        begin,
        stop,
    });
    let mut collected = Collected::of(job.requests.names());
    let (counts, mut counted) = unbounded_channel();
    let share = Share {
        job,
        number: 0,
        bound,
        log: None,
        counts,
    };
    share.work(Timer::Coarse, Busy::by(|| Duration::ZERO)).await;
    while let Ok(counts) = counted.try_recv() {
        collected.add(counts);
    }
    collected
}

#[test]
fn a_stall_shows_in_every_request_that_was_due_meanwhile() {
    with_the_clock_in_hand(async {
        let never = CancellationToken::new();
        let collected = stalled(5000, never, Duration::ZERO).await;
        let endpoint = &collected.endpoints[NAME];
        let whole = endpoint.whole();
        assert_eq!(
            (whole.requests, whole.dropped, whole.failed),
            (10_000, 0, 0)
        );
        assert_eq!(whole.received, 50_000);
        for (quantile, seconds) in [(0.90, 1.0), (0.95, 1.5), (0.99, 1.9)] {
            let seen = whole.latency.quantile(quantile).unwrap() as f64 / 1e6;
            assert!((seen / seconds - 1.0).abs() < 0.02, "{quantile}: {seen} s");
        }
        // The block of an arrival is that in which it was due.
        let requests: Vec<u64> = endpoint
            .blocks
            .values()
            .map(|block| block.requests)
            .collect();
        assert_eq!(requests, [1000; 10]);
        let median = |block: u32| endpoint.blocks[&block].latency.quantile(0.5).unwrap();
        assert!(median(3) < 1000 && median(6) < 1000);
        assert!(median(4).abs_diff(1_500_000) < 15_000, "{}", median(4));
        assert_eq!(collected.lag.count(), 10_000);
        assert!(collected.lag.quantile(1.0).unwrap() < 1000);
    });
}

#[test]
fn at_the_bound_arrivals_are_dropped_and_counted() {
    with_the_clock_in_hand(async {
        let never = CancellationToken::new();
        let collected = stalled(500, never, Duration::ZERO).await;
        let endpoint = &collected.endpoints[NAME];
        let dropped = |block: u32| endpoint.blocks[&block].dropped;
        assert_eq!((dropped(3), dropped(4), dropped(5)), (0, 500, 1000));
        // One is due at the very moment when the server goes on.
        assert!(dropped(6) <= 1 && dropped(7) == 0);
        let whole = endpoint.whole();
        assert_eq!(whole.requests + whole.dropped, 10_000);
        assert_eq!(collected.lag.count(), 10_000);
    });
}

#[test]
fn what_is_in_flight_drains_within_its_deadline() {
    with_the_clock_in_hand(async {
        let stop = CancellationToken::new();
        let interrupts = async {
            sleep_until(Instant::now() + Duration::from_millis(5_000)).await;
            stop.cancel();
        };
        let drained = stalled(5000, stop.clone(), Duration::from_secs(3));
        let (collected, ()) = tokio::join!(drained, interrupts);
        let whole = collected.endpoints[NAME].whole();
        assert!(whole.requests.abs_diff(5000) <= 1, "{}", whole.requests);
        assert_eq!(whole.failed, 0);
    });
}

#[test]
fn what_does_not_drain_in_time_is_counted_as_failed() {
    with_the_clock_in_hand(async {
        let stop = CancellationToken::new();
        let begin = Instant::now();
        let interrupts = async {
            sleep_until(begin + Duration::from_millis(5_000)).await;
            stop.cancel();
        };
        let drained = stalled(5000, stop.clone(), Duration::from_millis(250));
        let (collected, ()) = tokio::join!(drained, interrupts);
        let endpoint = &collected.endpoints[NAME];
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
