//! Traffic of the deployer's own, for services that have no users yet or no metrics: their smoke
//! requests, through the API server, at a bounded rate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::histogram::Histogram;
use super::objects::Objects;
use super::policy::expected;
use super::proxy;
use super::traffic::Window;
use crate::cluster::Cluster;

/// Twenty requests a second: 400 in the usual time that a version is watched.
const EVERY: Duration = Duration::from_millis(50);

/// The bounds of the histogram: each some one and a half times the one before.
const BOUNDS_MILLIS: [u64; 17] = [
    1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1_000, 2_000, 5_000,
];

/// One that asks until it is dropped.
pub(super) struct Probe {
    tally: Arc<Mutex<Tally>>,
    begun: Instant,
    _asking: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Tally {
    requests: u64,
    errors: u64,
    /// By bucket, how many; what took longer than all of them last.
    took: [u64; BOUNDS_MILLIS.len() + 1],
}

impl Probe {
    /// Asks the active Service for these in turn.
    pub fn begin(objects: &Objects<'_>, requests: &[String]) -> Probe {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let cluster = objects.cluster.clone();
        let (service, requests) = (objects.service.to_owned(), requests.to_vec());
        let asking = ask(cluster, service, requests, Arc::clone(&tally));
        Probe {
            tally,
            begun: Instant::now(),
            _asking: AbortOnDropHandle::new(tokio::spawn(asking)),
        }
    }

    /// What was answered since it began.
    pub fn window(&self) -> Window {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = BOUNDS_MILLIS.map(Duration::from_millis).into_iter();
        let mut within = 0;
        let counts: BTreeMap<Duration, u64> = bounds
            .chain([Duration::MAX])
            .zip(tally.took)
            .map(|(bound, count)| {
                within += count;
                (bound, within)
            })
            .collect();
        Window {
            requests: tally.requests,
            errors: tally.errors,
            durations: Histogram::of_cumulative(&counts),
            span: self.begun.elapsed(),
            ..Window::default()
        }
    }
}

async fn ask(cluster: Cluster, service: String, requests: Vec<String>, tally: Arc<Mutex<Tally>>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    for request in requests.iter().cycle() {
        tick.tick().await;
        while under_way.try_join_next().is_some() {}
        let (cluster, service, request) = (cluster.clone(), service.clone(), request.clone());
        let tally = Arc::clone(&tally);
        under_way.spawn(async move {
            let begun = Instant::now();
            let (path, status) = expected(&request);
            let answer = proxy::ask_service(&cluster, &service, path, proxy::ANSWER).await;
            let is_error = match answer {
                Ok(answer) => answer.status >= 500 || status.is_some_and(|it| it != answer.status),
                Err(proxy::NoAnswer::InTime(_)) => true,
                // It is the API server that is away, and not the service.
                Err(proxy::NoAnswer::AtAll(_)) => return,
            };
            let millis = begun.elapsed().as_micros().div_ceil(1_000);
            let bucket = BOUNDS_MILLIS.partition_point(|bound| u128::from(*bound) < millis);
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.requests += 1;
            tally.errors += u64::from(is_error);
            tally.took[bucket] += 1;
        });
    }
}
