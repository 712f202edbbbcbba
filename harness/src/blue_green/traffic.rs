//! Traffic as the pods themselves count it: what they show at `/metrics`, read through the
//! API server's proxy, twice, and subtracted.
//! <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>

pub(super) mod exposition;
pub mod histogram;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use hyper::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::ingress::Refusals;
use super::prometheus::Query;
use crate::cluster::Cluster;
use exposition::Sample;
use histogram::Histogram;

/// The name of the port that metrics are at; where a pod has none, they are at the other one.
pub(crate) const METRICS: &str = "metrics";
const HTTP: &str = "http";
const PATH: &str = "/metrics";

/// What a service calls its metrics, without the suffixes that Prometheus' libraries add.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricNames {
    /// Counts requests that were answered, by `status` or `code`.
    pub requests: String,
    /// How long they took, in seconds.
    pub durations: String,
    /// Counts requests that were begun; a service may do without.
    pub started: String,
    /// How many are begun and not answered; a service may do without.
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

/// What one sample is of.
enum Meaning {
    Requests,
    Durations,
    Started,
    InFlight,
}

impl MetricNames {
    fn meaning(&self, sample: &str) -> Option<Meaning> {
        // A counter's suffix is there once or, where a library adds its own, twice.
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

/// A pod that could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Its name.
    pub pod: String,
    /// Why.
    pub reason: String,
}

/// What each pod had counted at one time.
#[derive(Clone, Debug)]
pub struct Reading {
    at: Instant,
    /// By the pods' uid: a name may be given again.
    pods: BTreeMap<String, Counted>,
    /// What the ingress had answered by itself.
    refusals: Refusals,
}

#[derive(Clone, Debug)]
struct Counted {
    pod: String,
    /// How often its containers were started again: each time they count from zero.
    restarts: i32,
    /// As last read; none where it never was.
    counters: Option<Page>,
    /// Why they are not those of this time.
    unread: Option<String>,
}

/// What a pod shows.
#[derive(Clone, Debug, Default)]
struct Page {
    /// What it has answered.
    answered: Counters,
    /// How many requests it has begun, where it tells.
    started: Option<u64>,
    /// How many of them are not answered yet, and not given up.
    in_flight: u64,
}

impl Page {
    fn requests(&self) -> u64 {
        let counted = self.answered.iter();
        let counted = counted.filter(|(it, _)| it.kind == Kind::Answered);
        counted.map(|(_, count)| count).sum()
    }

    fn add(&mut self, kind: Kind, sample: &Sample<'_>, count: u64) {
        *self.answered.entry(series(kind, sample)).or_default() += count;
    }

    /// How many of them nobody waits for any more: begun, not answered, not in flight.
    fn given_up(&self) -> Option<i64> {
        let known = self.requests() + self.in_flight;
        i64::try_from(self.started?)
            .ok()?
            .checked_sub_unsigned(known)
    }
}

/// A counter that Prometheus tells of.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    /// The pod that it is of.
    pod: String,
    series: Series,
    count: u64,
}

impl Counter {
    /// By its sample in the answer to one of the queries.
    ///
    /// # Errors
    /// What is no counter of one pod, or no bucket's bound.
    pub fn of(query: Query, sample: &Sample<'_>) -> Result<Counter, String> {
        let kind = match query {
            Query::Requests => Kind::Answered,
            Query::Errors => Kind::Error,
            Query::Durations => Kind::Within(bound(sample)?),
        };
        // A sum of several goes back when one of them goes, and says nothing then.
        let pod = sample.label("pod").ok_or("a counter has no label `pod`")?;
        Ok(Counter {
            pod: pod.to_owned(),
            series: series(kind, sample),
            count: count(sample)?,
        })
    }
}

/// By series, what it stands at.
type Counters = BTreeMap<Series, u64>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    kind: Kind,
    /// All labels but the bucket's, sorted.
    labels: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Answered.
    Answered,
    /// Answered with 5xx; it is among those that were answered.
    Error,
    /// Answered within this time; [`Duration::MAX`]: at all.
    Within(Duration),
}

impl Reading {
    /// Asks every pod at once, each for at most `within`. It is never an error: whoever
    /// could not be asked is in [`Reading::unread`].
    pub async fn of(
        cluster: &Cluster,
        pods: &[Pod],
        names: &MetricNames,
        within: Duration,
    ) -> Reading {
        let at = Instant::now();
        let asked = pods.iter().map(async |pod| {
            let counters = counters(cluster, pod, names, within).await;
            let counted = Counted {
                pod: pod.name_any(),
                restarts: restarts(pod),
                unread: counters.as_ref().err().cloned(),
                counters: counters.ok(),
            };
            (pod.uid().unwrap_or_else(|| pod.name_any()), counted)
        });
        Reading {
            at,
            pods: join_all(asked).await.into_iter().collect(),
            refusals: Refusals::new(),
        }
    }

    /// What Prometheus has of these pods' requests, or why it tells nothing.
    pub(super) fn of_prometheus(pods: &[Pod], told: Result<Vec<Counter>, String>) -> Reading {
        let counted = |pod: &Pod| Counted {
            pod: pod.name_any(),
            restarts: restarts(pod),
            unread: told.as_ref().err().cloned(),
            counters: told.as_ref().ok().map(|_| Page::default()),
        };
        let its = pods.iter().map(|pod| (pod.name_any(), counted(pod)));
        let mut pods: BTreeMap<_, _> = its.collect();
        for Counter { pod, series, count } in told.into_iter().flatten() {
            let counted = pods.entry(pod.clone()).or_insert_with(|| Counted {
                pod,
                restarts: 0,
                unread: None,
                counters: None,
            });
            let page = counted.counters.get_or_insert_default();
            *page.answered.entry(series).or_default() += count;
        }
        Reading {
            at: Instant::now(),
            pods,
            refusals: Refusals::new(),
        }
    }

    /// With what the ingress had answered by itself.
    #[must_use]
    pub(super) fn with_refusals(self, refusals: Refusals) -> Reading {
        Reading { refusals, ..self }
    }

    /// Where a pod could not be asked, what it had counted in the reading before: the next one
    /// has what it counts until then.
    #[must_use]
    pub fn since(mut self, before: &Reading) -> Reading {
        for (uid, now) in &mut self.pods {
            let before = before.pods.get(uid);
            if let (None, Some(before)) = (&now.counters, before) {
                // A restart that is seen next is one since then.
                now.restarts = before.restarts;
                now.counters.clone_from(&before.counters);
            }
        }
        for (uid, before) in &before.refusals {
            self.refusals.entry(uid.clone()).or_insert(*before);
        }
        self
    }

    /// When it began.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Those that could not be asked. What they count later cannot be told from what they
    /// had counted by now, so that a first reading is best repeated until there are none.
    pub fn unread(&self) -> impl Iterator<Item = Unread> + '_ {
        self.pods.values().filter_map(Counted::unread)
    }
}

impl Counted {
    fn unread(&self) -> Option<Unread> {
        let reason = self.unread.clone()?;
        Some(Unread {
            pod: self.pod.clone(),
            reason,
        })
    }
}

/// What was answered between two readings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// How many requests were answered.
    pub requests: u64,
    /// How many of them with 5xx.
    pub errors: u64,
    /// How many the ingress answered with 502, 503 or 504. Some of these may be the pods' own.
    #[serde(default)]
    pub refused: u64,
    /// How long they took.
    pub durations: Histogram,
    /// How many requests clients gave up, before there was an answer. As a pod counts on while it
    /// is asked, it may be off by a few, to either side.
    #[serde(default)]
    pub given_up: i64,
    /// How many were not answered yet, at the time of the latter.
    #[serde(default)]
    pub in_flight: u64,
    /// How many were not at any time of the last looks: requests come and go, and these stay.
    #[serde(default)]
    pub stuck: u64,
    /// From the one reading to the other.
    pub span: Duration,
    /// How often containers were started again.
    #[serde(default)]
    pub restarts: u64,
    /// How many pods are counted in.
    pub pods: usize,
    /// Those that are not, as they could not be asked at one of the times.
    pub unread: Vec<Unread>,
}

impl Window {
    /// What was answered from `earlier` to `later`.
    ///
    /// A pod that is new has counted from zero, as has one that was started again. What one
    /// that is gone had answered since `earlier` is not known.
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
                Some(Counted {
                    counters: Some(counters),
                    restarts,
                    ..
                }) => (counters, *restarts),
                Some(_) => continue,
            };
            let Some(now_at) = &now.counters else {
                continue;
            };
            let more = u64::try_from(now.restarts.saturating_sub(restarts));
            window.restarts += more.unwrap_or(0);
            let before =
                match restarts == now.restarts && !was_reset(&before.answered, &now_at.answered) {
                    true => before,
                    false => &nothing,
                };
            window.pods += usize::from(now.unread.is_none());
            window.in_flight += now_at.in_flight;
            if let (Some(before), Some(now)) = (before.given_up().or(Some(0)), now_at.given_up()) {
                window.given_up += now - before;
            }
            window.add(&before.answered, &now_at.answered);
        }
        // Of a pod of the ingress that is new it is not known when it began to count.
        for (uid, now) in &later.refusals {
            let before = earlier.refusals.get(uid);
            window.refused += before.map_or(0, |before| now.saturating_sub(*before));
        }
        window
    }

    /// How many requests failed with an answer, be it the ingress' alone.
    pub fn failed(&self) -> u64 {
        self.errors.max(self.refused)
    }

    /// How many requests were answered, be it by the ingress alone.
    pub fn answered(&self) -> u64 {
        self.requests + (self.failed() - self.errors)
    }

    /// This and what was answered right after it, of which `next` tells. So what a pod had counted
    /// before it was started again, or went, is not lost.
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
                Kind::Answered => self.requests += more,
                Kind::Error => self.errors += more,
                Kind::Within(bound) => {
                    let counts = durations.entry(&series.labels).or_default();
                    counts.insert(bound, more);
                }
            }
        }
        for counts in durations.values() {
            self.durations = self.durations.plus(&Histogram::of_cumulative(counts));
        }
    }

    /// The time that a share `q` of the requests took at most: [`Histogram::quantile`].
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        self.durations.quantile(q)
    }
}

/// No counter goes back or away but by a restart; then all of them do.
fn was_reset(before: &Counters, now: &Counters) -> bool {
    let mut before = before.iter();
    before.any(|(series, count)| now.get(series).is_none_or(|now| now < count))
}

/// How often its containers were started again.
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

/// What a pod shows at `/metrics`, or why it does not.
pub(super) async fn page(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: i32,
    within: Duration,
) -> Result<String, String> {
    let uri = format!("/api/v1/namespaces/{namespace}/pods/http:{pod}:{port}/proxy{PATH}");
    let request = Request::get(uri).body(Vec::new());
    let request = request.map_err(|error| error.to_string())?;
    match timeout(within, client.request_text(request)).await {
        Ok(answer) => answer.map_err(|error| crate::chain(&error)),
        Err(_) => Err(format!("no answer within {within:?}")),
    }
}

/// The proxy knows the names of a Service's ports, but not of a pod's.
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
            Some(Meaning::Durations) => page.add(Kind::Within(bound(&sample)?), &sample, count),
            Some(Meaning::Requests) | None => {
                page.add(Kind::Answered, &sample, count);
                if is_error(&sample) {
                    page.add(Kind::Error, &sample, count);
                }
            }
        }
    }
    Ok(page)
}

fn series(kind: Kind, sample: &Sample<'_>) -> Series {
    let labels = sample.labels.iter().filter(|(name, _)| *name != "le");
    let mut labels: Vec<_> = labels.map(|(k, v)| format!("{k}={v:?}")).collect();
    labels.sort_unstable();
    Series {
        kind,
        labels: labels.join(","),
    }
}

/// `status` is ours, `code` is Go's client library's.
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
    /// Greater ones are not whole any more: 2^53.
    const GREATEST: f64 = 9_007_199_254_740_992.0;
    match sample.value {
        value if (0.0..=GREATEST).contains(&value) => Ok(value.round() as u64),
        value => Err(format!("{} stands at {value}", sample.name)),
    }
}

#[cfg(test)]
mod tests;
