//! Traffic as the pods count it. Their `/metrics` are read twice through the API server's proxy;
//! the difference is the traffic between the reads.
//! <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>

pub(super) mod exposition;
pub mod histogram;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::proxy;
use exposition::Sample;
use histogram::Histogram;
use kubernetes::Cluster;

/// The name of the port with the metrics. A pod without it serves them at `http`.
pub const METRICS: &str = "metrics";
const HTTP: &str = "http";
const PATH: &str = "/metrics";

/// The names of a service's metrics, without the suffixes of Prometheus' libraries.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricNames {
    /// Counts answered requests, by `status` or `code`.
    pub requests: String,
    /// The durations of answered requests, in seconds.
    pub durations: String,
    /// Counts started requests; optional.
    pub started: String,
    /// The number of started requests without an answer yet; optional.
    pub in_flight: String,
}

impl Default for MetricNames {
    fn default() -> Self {
        MetricNames {
            requests: "http_requests".to_owned(),
            durations: "http_request_duration_seconds".to_owned(),
            started: "http_requests_started".to_owned(),
            in_flight: "http_requests_in_flight".to_owned(),
        }
    }
}

/// The metric of a sample.
enum Meaning {
    Requests,
    Durations,
    Started,
    InFlight,
}

impl MetricNames {
    fn meaning(&self, sample: &str) -> Option<Meaning> {
        // A library may add the counter's suffix a second time.
        let counter = |name: &str| sample.trim_end_matches("_total") == name;
        match sample {
            _ if counter(&self.requests) => Some(Meaning::Requests),
            _ if counter(&self.started) => Some(Meaning::Started),
            _ if sample.strip_suffix("_bucket") == Some(&self.durations) => {
                Some(Meaning::Durations)
            }
            _ if sample == self.in_flight => Some(Meaning::InFlight),
            _ => None,
        }
    }
}

/// A pod whose metrics could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The pod's name.
    pub pod: String,
    /// The cause.
    pub reason: String,
}

/// How many of its own error responses each pod of the ingress controller has counted, by uid.
pub(super) type Refusals = BTreeMap<String, u64>;

/// The counters of each pod at one time.
#[derive(Clone, Debug)]
pub struct Reading {
    at: Instant,
    /// By uid: a name may be used again.
    pods: BTreeMap<String, PodReading>,
    refusals: Refusals,
}

#[derive(Clone, Debug)]
struct PodReading {
    pod: String,
    /// The restarts of its containers. After each one they count from zero.
    restarts: i32,
    /// As last read; none: never read.
    counters: Option<Page>,
    /// Why the counters could not be read this time.
    unread: Option<String>,
}

/// A pod's metrics.
#[derive(Clone, Debug, Default)]
struct Page {
    answered: Counters,
    /// None: the pod does not count these.
    started: Option<u64>,
    /// Requests without an answer whose clients still wait.
    in_flight: u64,
}

impl Page {
    fn requests(&self) -> u64 {
        let all = self.answered.iter();
        let requests = all.filter(|(it, _)| it.kind == SeriesKind::Answered);
        requests.map(|(_, count)| count).sum()
    }

    fn add(&mut self, kind: SeriesKind, sample: &Sample<'_>, count: u64) {
        *self.answered.entry(series(kind, sample)).or_default() += count;
    }

    /// Requests whose clients gave up: started, not answered and not in flight.
    fn given_up(&self) -> Option<i64> {
        let started = i64::try_from(self.started?).ok()?;
        started.checked_sub_unsigned(self.requests() + self.in_flight)
    }
}

/// A query to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query {
    Requests,
    Errors,
    Durations,
}

/// A counter from Prometheus.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    pod: String,
    series: Series,
    count: u64,
}

impl Counter {
    /// Returns the counter of a sample.
    ///
    /// # Errors
    /// It is no counter of one pod, or its bucket has no bound.
    pub fn of(query: Query, sample: &Sample<'_>) -> Result<Counter, String> {
        let kind = match query {
            Query::Requests => SeriesKind::Answered,
            Query::Errors => SeriesKind::Error,
            Query::Durations => SeriesKind::Within(bound(sample)?),
        };
        // A sum over several pods would decrease when one of them ends.
        let pod = sample.label("pod").ok_or("a counter has no label `pod`")?;
        Ok(Counter {
            pod: pod.to_owned(),
            series: series(kind, sample),
            count: count(sample)?,
        })
    }
}

/// The value of each series.
type Counters = BTreeMap<Series, u64>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    kind: SeriesKind,
    /// All labels but the bucket's, sorted.
    labels: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SeriesKind {
    Answered,
    /// Answered with 5xx; also counted as answered.
    Error,
    /// Answered within this time; [`Duration::MAX`]: in any time.
    Within(Duration),
}

impl Reading {
    /// Reads all pods concurrently, each for at most `within`. It never fails: a pod that could not
    /// be read is in [`Reading::unread`].
    pub async fn of(
        cluster: &Cluster,
        pods: &[Pod],
        names: &MetricNames,
        within: Duration,
    ) -> Reading {
        let at = Instant::now();
        let read = pods.iter().map(async |pod| {
            let counters = counters(cluster, pod, names, within).await;
            let uid = pod.uid().unwrap_or_else(|| pod.name_any());
            (uid, PodReading::of(pod, counters))
        });
        Reading {
            at,
            pods: join_all(read).await.into_iter().collect(),
            refusals: Refusals::new(),
        }
    }

    /// Returns Prometheus' counters of these pods, or why there are none.
    pub(super) fn of_prometheus(pods: &[Pod], counters: Result<Vec<Counter>, String>) -> Reading {
        let readings = pods.iter().map(|pod| {
            let page = counters.as_ref().map(|_| Page::default());
            let page = page.map_err(String::clone);
            (pod.name_any(), PodReading::of(pod, page))
        });
        let mut pods: BTreeMap<_, _> = readings.collect();
        for Counter { pod, series, count } in counters.into_iter().flatten() {
            let reading = pods.entry(pod.clone()).or_insert_with(|| PodReading {
                pod,
                restarts: 0,
                unread: None,
                counters: None,
            });
            let page = reading.counters.get_or_insert_default();
            *page.answered.entry(series).or_default() += count;
        }
        Reading {
            at: Instant::now(),
            pods,
            refusals: Refusals::new(),
        }
    }

    /// Adds the error responses of the ingress itself.
    #[must_use]
    pub(super) fn with_refusals(self, refusals: Refusals) -> Reading {
        Reading { refusals, ..self }
    }

    /// Fills the gaps of pods that could not be read with the counters of the reading before. The
    /// next reading then includes what they counted meanwhile.
    #[must_use]
    pub fn since(mut self, before: &Reading) -> Reading {
        for (uid, now) in &mut self.pods {
            let before = before.pods.get(uid);
            if let (None, Some(before)) = (&now.counters, before) {
                // Otherwise the next reading would miss a restart.
                now.restarts = before.restarts;
                now.counters.clone_from(&before.counters);
            }
        }
        for (uid, before) in &before.refusals {
            self.refusals.entry(uid.clone()).or_insert(*before);
        }
        self
    }

    /// Returns when it began.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Returns the pods that could not be read. Repeat a first reading until there are none: their
    /// counters are unknown.
    pub fn unread(&self) -> impl Iterator<Item = Unread> + '_ {
        self.pods.values().filter_map(PodReading::unread)
    }
}

impl PodReading {
    fn of(pod: &Pod, counters: Result<Page, String>) -> PodReading {
        PodReading {
            pod: pod.name_any(),
            restarts: restarts(pod),
            unread: counters.as_ref().err().cloned(),
            counters: counters.ok(),
        }
    }

    fn unread(&self) -> Option<Unread> {
        let reason = self.unread.clone()?;
        Some(Unread {
            pod: self.pod.clone(),
            reason,
        })
    }
}

/// The traffic between two readings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The answered requests.
    pub requests: u64,
    /// Those answered with 5xx.
    pub errors: u64,
    /// Those that the ingress answered with 502, 503 or 504. Some of these may be the pods'
    /// answers.
    #[serde(default)]
    pub refused: u64,
    /// The durations of answered requests.
    pub durations: Histogram,
    /// The requests whose clients gave up. A pod counts on while it is read, so this may be a few
    /// too many or too few.
    #[serde(default)]
    pub given_up: i64,
    /// The requests without an answer at the later reading.
    #[serde(default)]
    pub in_flight: u64,
    /// The requests that were in flight at each of the last readings, and will not be answered.
    #[serde(default)]
    pub stuck: u64,
    /// The time between the readings.
    pub span: Duration,
    /// The restarts of containers.
    #[serde(default)]
    pub restarts: u64,
    /// The number of included pods.
    pub pods: usize,
    /// The pods that one of the readings lacks.
    pub unread: Vec<Unread>,
}

impl Window {
    /// Returns the traffic from `earlier` to `later`.
    ///
    /// A new pod has counted from zero, and so has one that restarted. What a deleted pod has
    /// answered since `earlier` is unknown.
    pub fn between(earlier: &Reading, later: &Reading) -> Window {
        let mut window = Window {
            span: later.at.saturating_duration_since(earlier.at),
            ..Window::default()
        };
        for (uid, now) in &later.pods {
            let before = earlier.pods.get(uid);
            let never_read = before.filter(|it| it.counters.is_none());
            let unread = now.unread().or_else(|| never_read?.unread());
            window.unread.extend(unread);
            let nothing = Page::default();
            let (before, restarts) = match before {
                None => (&nothing, 0),
                Some(PodReading {
                    counters: Some(counters),
                    restarts,
                    ..
                }) => (counters, *restarts),
                Some(_) => continue,
            };
            let Some(page) = &now.counters else {
                continue;
            };
            let more = u64::try_from(now.restarts.saturating_sub(restarts));
            window.restarts += more.unwrap_or(0);
            let reset = restarts != now.restarts || was_reset(&before.answered, &page.answered);
            let before = if reset { &nothing } else { before };
            window.pods += usize::from(now.unread.is_none());
            window.in_flight += page.in_flight;
            if let Some(given_up) = page.given_up() {
                window.given_up += given_up - before.given_up().unwrap_or(0);
            }
            window.add(&before.answered, &page.answered);
        }
        // It is unknown when a new pod of the ingress began to count.
        for (uid, now) in &later.refusals {
            let before = earlier.refusals.get(uid);
            window.refused += before.map_or(0, |before| now.saturating_sub(*before));
        }
        window
    }

    /// Returns the number of error responses of pods and of the ingress.
    pub fn failed(&self) -> u64 {
        self.errors.max(self.refused)
    }

    /// Returns the number of responses of pods and of the ingress.
    pub fn answered(&self) -> u64 {
        self.requests + (self.failed() - self.errors)
    }

    /// Adds the window right after this one. The counts of a pod before its restart or end are
    /// kept.
    #[must_use]
    pub fn and(self, next: Window) -> Window {
        Window {
            requests: self.requests + next.requests,
            errors: self.errors + next.errors,
            refused: self.refused + next.refused,
            given_up: self.given_up + next.given_up,
            durations: self.durations.plus(&next.durations),
            span: self.span + next.span,
            restarts: self.restarts + next.restarts,
            ..next
        }
    }

    fn add(&mut self, before: &Counters, now: &Counters) {
        let mut durations: BTreeMap<&str, BTreeMap<Duration, u64>> = BTreeMap::new();
        for (series, count) in now {
            let more = count.saturating_sub(before.get(series).copied().unwrap_or(0));
            match series.kind {
                SeriesKind::Answered => self.requests += more,
                SeriesKind::Error => self.errors += more,
                SeriesKind::Within(bound) => {
                    let counts = durations.entry(&series.labels).or_default();
                    counts.insert(bound, more);
                }
            }
        }
        for counts in durations.values() {
            self.durations = self.durations.plus(&Histogram::of_cumulative(counts));
        }
    }
}

/// A counter decreases or disappears only by a restart, which resets all counters.
fn was_reset(before: &Counters, now: &Counters) -> bool {
    let mut before = before.iter();
    before.any(|(series, count)| now.get(series).is_none_or(|now| now < count))
}

/// Returns the restarts of a pod's containers.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|it| it.container_statuses.as_ref());
    let containers = containers.into_iter().flatten();
    containers.map(|it| it.restart_count).sum()
}

async fn counters(
    cluster: &Cluster,
    pod: &Pod,
    names: &MetricNames,
    within: Duration,
) -> Result<Page, String> {
    let port =
        port(pod).ok_or_else(|| format!("it has no port that is named {METRICS:?} or {HTTP:?}"))?;
    let (client, name) = (cluster.client(), pod.name_any());
    let page = page(client, &cluster.namespace, &name, port, within).await?;
    read(&page, names)
}

/// Reads a pod's `/metrics`.
pub(super) async fn page(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: i32,
    within: Duration,
) -> Result<String, String> {
    let target = format!("pods/http:{pod}:{port}");
    proxy::get_text(client, namespace, &target, PATH, within).await
}

/// The proxy accepts the names of a Service's ports, but not of a pod's.
fn port(pod: &Pod) -> Option<i32> {
    let containers = pod.spec.as_ref()?.containers.iter();
    let ports = containers.flat_map(|it| it.ports.iter().flatten());
    let named = |name: &str| ports.clone().find(|it| it.name.as_deref() == Some(name));
    Some(named(METRICS).or_else(|| named(HTTP))?.container_port)
}

fn read(text: &str, names: &MetricNames) -> Result<Page, String> {
    let wanted = |name: &str| names.meaning(name).is_some();
    let samples = exposition::samples(text, wanted).map_err(|error| error.to_string())?;
    let mut page = Page::default();
    for sample in samples {
        let count = count(&sample)?;
        match names.meaning(sample.name) {
            Some(Meaning::Started) => *page.started.get_or_insert(0) += count,
            Some(Meaning::InFlight) => page.in_flight += count,
            Some(Meaning::Durations) => {
                page.add(SeriesKind::Within(bound(&sample)?), &sample, count)
            }
            Some(Meaning::Requests) | None => {
                page.add(SeriesKind::Answered, &sample, count);
                if is_error(&sample) {
                    page.add(SeriesKind::Error, &sample, count);
                }
            }
        }
    }
    Ok(page)
}

fn series(kind: SeriesKind, sample: &Sample<'_>) -> Series {
    let labels = sample.labels.iter().filter(|(name, _)| *name != "le");
    let mut labels: Vec<_> = labels.map(|(k, v)| format!("{k}={v:?}")).collect();
    labels.sort_unstable();
    Series {
        kind,
        labels: labels.join(","),
    }
}

/// `status` is the platform's label, `code` that of Go's client library.
fn is_error(sample: &Sample<'_>) -> bool {
    let status = sample.label("status").or_else(|| sample.label("code"));
    status.is_some_and(|it| it.len() == 3 && it.starts_with('5'))
}

fn bound(sample: &Sample<'_>) -> Result<Duration, String> {
    let text = sample.label("le").unwrap_or_default();
    match text.parse::<f64>() {
        Ok(f64::INFINITY) => Ok(Duration::MAX),
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| text),
        Err(_) => Err(text),
    }
    .map_err(|text| format!("{} has le={text:?}", sample.name))
}

pub(super) fn count(sample: &Sample<'_>) -> Result<u64, String> {
    /// Above 2^53 not every integer is exact.
    const GREATEST: f64 = 9_007_199_254_740_992.0;
    match sample.value {
        value if (0.0..=GREATEST).contains(&value) => Ok(value.round() as u64),
        value => Err(format!("{} has the value {value}", sample.name)),
    }
}

#[cfg(test)]
mod tests;
