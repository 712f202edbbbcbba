//! Traffic of the deployer's own, for services that have no users yet or no metrics: a prober asks
//! both Services for their smoke requests, open loop, at a bounded rate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceSpec;
use tokio::time::Instant;

use super::objects::Objects;
use super::policy::{Policy, expected};
use super::retry::{ABSENCE, retrying};
use super::traffic::histogram::Histogram;
use super::traffic::{Unread, Window};
use crate::prober::{
    Answer, Inside, Lane, MONITORING, Outcome, Outside, Owner, Seen, Spec, Target, close_all,
    micros,
};

/// So many requests a second to each Service, all paths together: 400 in the usual time that a
/// version is watched.
const RATE: f64 = 20.0;

/// For the prober's pod to be scheduled, to start, and to ask.
const START: Duration = Duration::from_secs(60);

/// A prober that is not heard for longer is not there any more. What takes longest to be told of
/// is a request that times out.
const SILENT: Duration = Duration::from_secs(10);

/// Nobody watches for longer: a prober refuses to.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The bounds of the histogram: each some one and a half times the one before.
const BOUNDS_MILLIS: [u64; 17] = [
    1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1_000, 2_000, 5_000,
];

/// From where requests of the deployer's own come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeFrom<'a> {
    /// From a pod in the cluster.
    Pod {
        /// The prober's, which the nodes have or can pull.
        image: &'a str,
    },
    /// From this process: the addresses of Services are this machine's.
    Here,
    /// From nowhere: no image is to be had.
    Nowhere,
}

/// One that asks until it is ended.
pub(super) struct Probe {
    prober: Prober,
    /// As many answers were there when its window began, and then.
    began: (usize, Instant),
    /// As many were there when it was last looked at; and since when there are no more.
    heard: (usize, Instant),
}

enum Prober {
    Pod(Box<Inside>),
    Here(Outside),
}

impl Probe {
    /// Has the active and the preview Service asked for these, and has seen that they are.
    ///
    /// # Errors
    /// Why nobody asks.
    pub async fn begin(
        from: ProbeFrom<'_>,
        objects: &Objects<'_>,
        policy: &Policy,
        requests: &[String],
    ) -> Result<Probe, String> {
        let longest = policy.baseline + policy.green_ready + policy.watch + policy.drain;
        let spec = Spec {
            lanes: lanes(from, objects, requests).await?,
            seconds: (longest + 2 * ABSENCE).min(LONGEST).as_secs_f64(),
        };
        let prober = match from {
            ProbeFrom::Pod { image } => {
                sweep(objects).await?;
                let (client, owned) = (objects.cluster.client().clone(), (image, &owner(objects)));
                let started = Inside::start(client, MONITORING, owned, &spec, START);
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
            heard: now,
        })
    }

    /// What is answered from now on is counted.
    pub fn count_anew(&mut self) {
        self.began = (self.seen().look(<[Answer]>::len), Instant::now());
    }

    /// What a Service has answered; how long it took, from the end of `warm_up` on.
    pub fn window(&mut self, service: &str, warm_up: Duration) -> Window {
        let (before, since) = self.began;
        let (heard, window) = self
            .seen()
            .look(|answers| (answers.len(), counted(&answers[before..], service, warm_up)));
        if heard > self.heard.0 {
            self.heard = (heard, Instant::now());
        }
        let silent = self.heard.1.elapsed();
        let unread = (silent > SILENT).then(|| Unread {
            pod: "the prober".to_owned(),
            reason: format!("nothing was heard of it for {silent:.0?}"),
        });
        Window {
            span: since.elapsed(),
            unread: unread.into_iter().collect(),
            ..window
        }
    }

    fn seen(&self) -> &Seen {
        match &self.prober {
            Prober::Pod(inside) => inside.seen(),
            Prober::Here(outside) => outside.seen(),
        }
    }

    /// Nothing is asked any more.
    ///
    /// # Errors
    /// Why its pod is still there.
    pub async fn end(self) -> Result<(), String> {
        match self.prober {
            Prober::Pod(inside) => inside.discard().await.map_err(|error| error.to_string()),
            // Dropped, it ends.
            Prober::Here(_) => Ok(()),
        }
    }
}

/// Deletes what deployers of this service that died have left: the lock is ours.
///
/// # Errors
/// Why it may still be there.
pub(super) async fn sweep(objects: &Objects<'_>) -> Result<(), String> {
    let client = objects.cluster.client().clone();
    let swept = close_all(client, MONITORING, &owner(objects)).await;
    swept.map_err(|error| error.to_string())
}

fn owner(objects: &Objects<'_>) -> Owner {
    let (service, namespace) = (objects.service, &objects.cluster.namespace);
    Owner::of(&format!("release of {namespace}/{service}"))
}

/// One for each request to each of the two.
async fn lanes(
    from: ProbeFrom<'_>,
    objects: &Objects<'_>,
    requests: &[String],
) -> Result<Vec<Lane>, String> {
    let requests: BTreeSet<&String> = requests.iter().collect();
    let rate = RATE / requests.len().max(1) as f64;
    let mut lanes = Vec::new();
    for asked in [objects.service.to_owned(), objects.preview()] {
        let api = objects.services();
        let found = retrying("get a Service", async || api.get(&asked).await).await;
        let spec = found.map_err(|error| error.to_string())?.spec;
        let target = target(from, objects, &asked, &spec.unwrap_or_default());
        let target = target.ok_or_else(|| format!("the Service {asked} has no address"))?;
        for request in &requests {
            let (path, status) = expected(request);
            let lane = Lane::new_connection(target(path), rate);
            lanes.push(Lane {
                name: lane_of(&asked, request),
                good: status.into_iter().collect(),
                ..lane
            });
        }
    }
    Ok(lanes)
}

/// What makes a target of a path of this Service; none where it has no port, or no address.
fn target(
    from: ProbeFrom<'_>,
    objects: &Objects<'_>,
    name: &str,
    spec: &ServiceSpec,
) -> Option<impl Fn(&str) -> Target + use<>> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let http = ports.iter().find(|it| it.name.as_deref() == Some("http"));
    let port = u16::try_from(http.or(ports.first())?.port).ok()?;
    let host = match from {
        ProbeFrom::Here => spec.cluster_ip.clone()?,
        _ => format!("{name}.{}", objects.cluster.namespace),
    };
    Some(move |path: &str| Target::of(format!("http://{host}:{port}{path}")))
}

fn lane_of(service: &str, request: &str) -> String {
    format!("{service} {request}")
}

/// What was answered on the lanes of a Service; how long it took, of what was due after `warm_up`.
/// What the prober was late by itself is not the service's.
fn counted(answers: &[Answer], service: &str, warm_up: Duration) -> Window {
    let its = lane_of(service, "");
    let begun = answers.iter().map(|it| it.intended).min();
    let warm = begun.unwrap_or_default() + micros(warm_up);
    let mut window = Window::default();
    let mut took = [0; BOUNDS_MILLIS.len() + 1];
    let mut pods = BTreeSet::new();
    for answer in answers {
        if !answer.lane.starts_with(&its) || answer.outcome == Outcome::Dropped {
            continue;
        }
        window.requests += 1;
        window.errors += u64::from(answer.failed());
        pods.extend(answer.by.as_ref().map(|by| &by.instance));
        if answer.intended < warm {
            continue;
        }
        let millis = answer
            .took
            .saturating_sub(answer.sent_after)
            .div_ceil(1_000);
        took[BOUNDS_MILLIS.partition_point(|bound| *bound < millis)] += 1;
    }
    window.pods = pods.len();
    window.durations = histogram(took);
    window
}

/// Of how many took as long as each bound at most, and no less; the last ones longer than all.
fn histogram(took: [u64; BOUNDS_MILLIS.len() + 1]) -> Histogram {
    let bounds = BOUNDS_MILLIS.map(Duration::from_millis).into_iter();
    let mut within = 0;
    let counts: BTreeMap<Duration, u64> = bounds
        .chain([Duration::MAX])
        .zip(took)
        .map(|(bound, count)| {
            within += count;
            (bound, within)
        })
        .collect();
    Histogram::of_cumulative(&counts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::prober::Identity;

    fn answer(lane: &str, outcome: Outcome, millis: u64) -> Answer {
        Answer {
            lane: lane.into(),
            intended: 0,
            sent_after: 4_000,
            took: 4_000 + millis * 1_000,
            good: outcome == Outcome::Status(200),
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
    fn what_is_told_of_a_service_is_counted_as_its_own() {
        let answers = [
            answer("quotes /a", Outcome::Status(200), 2),
            answer("quotes 401 /b", Outcome::Status(503), 7),
            answer("quotes /a", Outcome::Refused, 0),
            answer("quotes /a", Outcome::TimedOut, 5_001),
            // Not sent, which is no word on the service.
            answer("quotes /a", Outcome::Dropped, 0),
            answer("quotes-preview /a", Outcome::Status(500), 1),
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
    fn what_is_slow_while_it_is_cold_is_no_word_on_its_latency() {
        let answers: Vec<_> = (0..10)
            .map(|second| Answer {
                intended: 7_000_000 + second * 1_000_000,
                ..answer(
                    "quotes /a",
                    Outcome::Status(500),
                    if second < 4 { 900 } else { 2 },
                )
            })
            .collect();
        let window = counted(&answers, "quotes", Duration::from_secs(4));
        assert_eq!((window.requests, window.errors), (10, 10));
        assert_eq!(window.durations.total(), 6);
        assert!(window.quantile(1.0) <= Some(Duration::from_millis(2)));
    }
}
