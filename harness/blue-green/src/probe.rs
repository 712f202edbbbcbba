//! The deployer's own traffic, for services without users or metrics. A prober sends the smoke
//! requests to both Services at a fixed rate, in an open loop.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceSpec;
use tokio::time::Instant;

use super::Deployer;
use super::objects::{ServiceObjects, request_port};
use super::policy::expected;
use super::retry::{RETRIED_FOR, retrying};
use super::traffic::histogram::Histogram;
use super::traffic::{Unread, Window};
use kubernetes::prober::{
    Answer, Answers, Inside, Lane, Outside, Owner, ProbeTarget, RequestOutcome, Spec, close_all,
    micros,
};

/// Requests per second to each Service, for all paths: 400 in the default time of an analysis.
const RATE: f64 = 20.0;

/// How long the prober's pod may take to be scheduled, to start, and to send requests.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A prober that reports nothing for longer has failed. A request that times out is reported last.
const SILENT: Duration = Duration::from_secs(10);

/// The longest time that a prober accepts.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The bounds of the histogram: each is about one and a half times the one before.
const BOUNDS_MILLIS: [u64; 17] = [
    1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1_000, 2_000, 5_000,
];

/// Where the deployer's own requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeFrom<'a> {
    /// From a pod in the cluster.
    Pod {
        /// The prober's image, which the nodes have or can pull.
        image: &'a str,
    },
    /// From this process: the addresses of Services are on this machine.
    Here,
    /// There is no image.
    Nowhere,
}

/// A prober that sends requests until it is stopped.
pub(super) struct Probe {
    prober: Prober,
    /// The number of answers at the beginning of the window, and its time.
    began: (usize, Instant),
    /// The number of answers at the last read, and since when.
    received: (usize, Instant),
}

enum Prober {
    Pod(Box<Inside>),
    Here(Outside),
}

impl Probe {
    /// Starts to send the deployer's smoke requests to the active and the preview Service.
    ///
    /// # Errors
    /// Why no requests are sent.
    pub async fn begin(
        deployer: &Deployer<'_>,
        objects: &ServiceObjects<'_>,
    ) -> Result<Probe, String> {
        let Deployer {
            policy,
            smoke,
            probe_from: from,
            helpers_namespace: namespace,
            ..
        } = *deployer;
        let longest = policy.baseline + policy.green_ready + policy.watch + policy.drain;
        let spec = Spec {
            lanes: lanes(from, objects, smoke).await?,
            seconds: (longest + 2 * RETRIED_FOR).min(LONGEST).as_secs_f64(),
            headers: policy.versions.headers.clone(),
        };
        let prober = match from {
            ProbeFrom::Pod { image } => {
                sweep(objects, namespace).await?;
                let (client, owned) = (objects.cluster.client().clone(), (image, &owner(objects)));
                let started = Inside::start(client, namespace, owned, &spec, START_TIMEOUT);
                let started = Box::pin(started).await;
                Prober::Pod(Box::new(started.map_err(|error| error.to_string())?))
            }
            ProbeFrom::Here => {
                let started = Outside::start(&spec).await;
                Prober::Here(started.map_err(|error| error.to_string())?)
            }
            ProbeFrom::Nowhere => return Err("there is no image of the prober".to_owned()),
        };
        let now = (0, Instant::now());
        Ok(Probe {
            prober,
            began: now,
            received: now,
        })
    }

    /// Begins a new window.
    pub fn count_anew(&mut self) {
        self.began = (self.seen().look(<[Answer]>::len), Instant::now());
    }

    /// Returns the answers of a Service. Their latency counts after `warm_up`.
    pub fn window(&mut self, service: &str, warm_up: Duration) -> Window {
        let (before, since) = self.began;
        let (received, window) = self
            .seen()
            .look(|answers| (answers.len(), counted(&answers[before..], service, warm_up)));
        if received > self.received.0 {
            self.received = (received, Instant::now());
        }
        let silent = self.received.1.elapsed();
        let unread = (silent > SILENT).then(|| Unread {
            pod: "the prober".to_owned(),
            reason: format!("it reported nothing for {silent:.0?}"),
        });
        Window {
            span: since.elapsed(),
            unread: unread.into_iter().collect(),
            ..window
        }
    }

    fn seen(&self) -> &Answers {
        match &self.prober {
            Prober::Pod(inside) => inside.seen(),
            Prober::Here(outside) => outside.seen(),
        }
    }

    /// Stops the requests.
    ///
    /// # Errors
    /// Why its pod still exists.
    pub async fn end(self) -> Result<(), String> {
        match self.prober {
            Prober::Pod(inside) => inside.discard().await.map_err(|error| error.to_string()),
            // Dropping it stops it.
            Prober::Here(_) => Ok(()),
        }
    }
}

/// Deletes the probers of dead deployers of this service in `namespace`: the lock is ours.
///
/// # Errors
/// Why they may still exist.
pub(super) async fn sweep(objects: &ServiceObjects<'_>, namespace: &str) -> Result<(), String> {
    let client = objects.cluster.client().clone();
    let swept = close_all(client, namespace, &owner(objects)).await;
    swept.map_err(|error| error.to_string())
}

fn owner(objects: &ServiceObjects<'_>) -> Owner {
    let (service, namespace) = (objects.service, &objects.cluster.namespace);
    Owner::of(&format!("release of {namespace}/{service}"))
}

/// Returns one lane for each request to each of the two Services.
async fn lanes(
    from: ProbeFrom<'_>,
    objects: &ServiceObjects<'_>,
    requests: &[String],
) -> Result<Vec<Lane>, String> {
    let requests: BTreeSet<&String> = requests.iter().collect();
    let rate = RATE / requests.len().max(1) as f64;
    let mut lanes = Vec::new();
    for service in [objects.service.to_owned(), objects.preview()] {
        let api = objects.services();
        let found = retrying("get a Service", async || api.get(&service).await).await;
        let spec = found.map_err(|error| error.to_string())?.spec;
        let target = target(from, objects, &service, &spec.unwrap_or_default());
        let target = target.ok_or_else(|| format!("the Service {service} has no address"))?;
        for request in &requests {
            let (path, status) = expected(request);
            let lane = Lane::new_connection(target(path), rate);
            lanes.push(Lane {
                name: lane_of(&service, request),
                good: status.into_iter().collect(),
                ..lane
            });
        }
    }
    Ok(lanes)
}

/// Returns a function from paths of this Service to targets; none if it has no port, or no address.
fn target(
    from: ProbeFrom<'_>,
    objects: &ServiceObjects<'_>,
    name: &str,
    spec: &ServiceSpec,
) -> Option<impl Fn(&str) -> ProbeTarget + use<>> {
    let port = u16::try_from(request_port(spec)?.port).ok()?;
    let host = match from {
        ProbeFrom::Here => spec.cluster_ip.clone()?,
        _ => format!("{name}.{}", objects.cluster.namespace),
    };
    Some(move |path: &str| ProbeTarget::of(format!("http://{host}:{port}{path}")))
}

fn lane_of(service: &str, request: &str) -> String {
    format!("{service} {request}")
}

/// Returns the answers on the lanes of a Service. Latency is without the prober's own delay, and of
/// requests that were due after `warm_up`.
fn counted(answers: &[Answer], service: &str, warm_up: Duration) -> Window {
    let prefix = lane_of(service, "");
    let begun = answers.iter().map(|it| it.intended).min();
    let warm = begun.unwrap_or_default() + micros(warm_up);
    let mut window = Window::default();
    let mut counts = [0; BOUNDS_MILLIS.len() + 1];
    let mut pods = BTreeSet::new();
    for answer in answers {
        if !answer.lane.starts_with(&prefix) || answer.outcome == RequestOutcome::Dropped {
            continue;
        }
        window.requests += 1;
        window.errors += u64::from(answer.failed());
        pods.extend(answer.by.as_ref().map(|by| &by.instance));
        if answer.intended < warm {
            continue;
        }
        let micros = answer.took.saturating_sub(answer.sent_after);
        let millis = micros.div_ceil(1_000);
        counts[BOUNDS_MILLIS.partition_point(|bound| *bound < millis)] += 1;
    }
    window.pods = pods.len();
    window.durations = histogram(counts);
    window
}

/// Returns the histogram of the counts of each bucket. The last count is of those over all bounds.
fn histogram(counts: [u64; BOUNDS_MILLIS.len() + 1]) -> Histogram {
    let bounds = BOUNDS_MILLIS.map(Duration::from_millis).into_iter();
    let mut within = 0;
    let counts = bounds.chain([Duration::MAX]).zip(counts);
    let cumulative = counts.map(|(bound, count)| {
        within += count;
        (bound, within)
    });
    Histogram::of_cumulative(&cumulative.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use kubernetes::prober::Identity;

    fn answer(lane: &str, outcome: RequestOutcome, millis: u64) -> Answer {
        Answer {
            lane: lane.into(),
            intended: 0,
            sent_after: 4_000,
            took: 4_000 + millis * 1_000,
            good: outcome == RequestOutcome::Status(200),
            by: outcome.status().map(|_| {
                Arc::new(Identity {
                    instance: "quotes-green-1".into(),
                    ..Identity::default()
                })
            }),
            outcome,
            on: None,
        }
    }

    #[test]
    fn answers_count_for_their_own_service() {
        let answers = [
            answer("quotes /a", RequestOutcome::Status(200), 2),
            answer("quotes 401 /b", RequestOutcome::Status(503), 7),
            answer("quotes /a", RequestOutcome::Refused, 0),
            answer("quotes /a", RequestOutcome::TimedOut, 5_001),
            // A request that was not sent shows nothing about the service.
            answer("quotes /a", RequestOutcome::Dropped, 0),
            answer("quotes-preview /a", RequestOutcome::Status(500), 1),
        ];
        let window = counted(&answers, "quotes", Duration::ZERO);
        assert_eq!((window.requests, window.errors, window.pods), (4, 3, 1));
        let buckets: Vec<_> = window.durations.buckets().collect();
        let bounds: Vec<_> = buckets.iter().map(|it| (it.upper, it.count)).collect();
        let millis = |it| Some(Duration::from_millis(it));
        assert_eq!(
            bounds,
            [(millis(1), 1), (millis(2), 1), (millis(8), 1), (None, 1)]
        );
        let preview = counted(&answers, "quotes-preview", Duration::ZERO);
        assert_eq!((preview.requests, preview.errors), (1, 1));
    }

    #[test]
    fn slow_answers_during_the_warm_up_do_not_count_as_latency() {
        let answers = (0..10).map(|second| {
            let millis = if second < 4 { 900 } else { 2 };
            Answer {
                intended: 7_000_000 + second * 1_000_000,
                ..answer("quotes /a", RequestOutcome::Status(500), millis)
            }
        });
        let answers: Vec<_> = answers.collect();
        let window = counted(&answers, "quotes", Duration::from_secs(4));
        assert_eq!((window.requests, window.errors), (10, 10));
        assert_eq!(window.durations.total(), 6);
        assert!(window.durations.quantile(1.0) <= Some(Duration::from_millis(2)));
    }
}
