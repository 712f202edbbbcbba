//! A prober in the cluster: a pod whose log is its answers.
//!
//! Its times are of its node's clock: phases cut at this machine's moments are as exact as the
//! two clocks agree. A kind cluster's nodes have this machine's, unless its engine is in a virtual
//! machine or elsewhere: how far they differ is measured, by its first and its last words.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::prober::line::{Reader, Said};
use ::prober::{Answer, ClockDifference, Lag, Recording, Spec, SpecError, Target, Vantage};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, ResourceRequirements};
use kube::api::DeleteParams;
use kube::{Client, ResourceExt};
use miette::Diagnostic;
use thiserror::Error;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::seen::Seen;
use crate::helper_pod::{self, HelperError, HelperPod, Owner, quantities};
use crate::wait::Observation;

/// The name of its image, and of what its pods are for.
pub const PART: &str = "prober";
/// For a pod to say its last words, after its last request.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// To be scheduled and started, in its lifetime.
const START: Duration = Duration::from_secs(120);

/// A Service's path, as pods of any namespace reach it.
pub fn service(name: &str, namespace: &str, port: u16, path: &str) -> Target {
    Target::of(format!("http://{name}.{namespace}:{port}{path}"))
}

/// Deletes the pods of all probers that `owner` has in `namespace`: what is left when it is
/// called off.
///
/// # Errors
/// [`InsideError::Pod`].
pub async fn close_all(client: Client, namespace: &str, owner: &Owner) -> Result<(), InsideError> {
    let at_once = DeleteParams::default().grace_period(0);
    Ok(helper_pod::delete_all::<Pod>(client, namespace, (PART, owner), &at_once).await?)
}

/// A prober cannot be had in the cluster, or not be ended.
#[derive(Debug, Error, Diagnostic)]
pub enum InsideError {
    /// What it is to do makes no sense.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Spec(#[from] SpecError),
    /// Its pod cannot be had, or be deleted.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pod(#[from] HelperError),
}

/// A prober in the cluster. Its pod is deleted by [`Inside::end`], and when this is dropped; where
/// that cannot be, it ends by itself when the time of its spec is up.
pub struct Inside {
    pod: HelperPod,
    heard: Arc<Mutex<Heard>>,
    seen: Seen,
    /// Reads the log.
    following: AbortOnDropHandle<()>,
    /// The longest that its last requests may take.
    longest: Duration,
    /// Until then it asks, unless it is ended.
    until: Instant,
}

/// What the log has said, answers aside.
#[derive(Default)]
struct Heard {
    began: Option<u64>,
    end: Option<(u64, Lag)>,
    /// By this machine's clock: what was done before its next words, the creation of its pod or
    /// the deletion.
    done: u64,
    clock: Option<ClockDifference>,
    lost: u64,
}

impl Heard {
    /// It says when it is, by its clock.
    fn says(&mut self, sent: u64) {
        let told = ClockDifference::of(sent, self.done, now());
        self.clock = Some(self.clock.map_or(told, |before| before.and(told)));
    }
}

/// Microseconds since the Unix epoch, by this machine's clock.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    ::prober::micros(since.unwrap_or_default())
}

impl Inside {
    /// Creates a pod of `image` in `namespace`, `owner`'s, and has heard within `deadline` that it asks.
    /// Where it does not, the pod is deleted again.
    ///
    /// # Errors
    /// [`InsideError`].
    pub async fn start(
        client: Client,
        namespace: &str,
        (image, owner): (&str, &Owner),
        spec: &Spec,
        deadline: Duration,
    ) -> Result<Inside, InsideError> {
        spec.check()?;
        let end = Instant::now() + deadline;
        let (heard, seen) = (Arc::<Mutex<Heard>>::default(), Seen::default());
        held(&heard).done = now();
        // Its own grace period is long enough for what is in flight.
        let with_grace = DeleteParams::default();
        let pod =
            HelperPod::start(client, namespace, &pod(image, owner, spec), with_grace, end).await?;
        let following = follow(&pod, heard.clone(), seen.clone());
        let following = AbortOnDropHandle::new(tokio::spawn(following));
        let began = heard.clone();
        let asks = move |looked| match looked {
            _ if held(&began).began.is_some() => Observation::Ready(()),
            Observation::Ready(()) => Observation::NotYet("it has not said so".into()),
            other => other,
        };
        Ok(Inside {
            pod: pod.until_seen("asks", end, asks).await?,
            heard,
            seen,
            following,
            longest: spec.longest_timeout(),
            until: Instant::now() + Duration::from_secs_f64(spec.seconds),
        })
    }

    /// How many answers were heard of so far.
    pub fn so_far(&self) -> u64 {
        self.seen.len()
    }

    /// What was heard so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Deletes the pod: what it says from then on is lost.
    ///
    /// # Errors
    /// [`InsideError::Pod`].
    pub async fn discard(self) -> Result<(), InsideError> {
        Ok(self.pod.delete().await?)
    }

    /// Has the pod finish what is in flight, the longest timeout of a lane at most, and
    /// deletes it. A pod that ended without its last words is a recording that is
    /// [inconclusive](Recording::inconclusive).
    ///
    /// # Errors
    /// [`InsideError::Pod`].
    pub async fn end(mut self) -> Result<Recording, InsideError> {
        // One that ended by itself has said so before.
        if Instant::now() < self.until {
            held(&self.heard).done = now();
        }
        self.pod.delete().await?;
        // When it is not done in time, what was heard until then is what there is.
        let _ = timeout(self.longest + LAST_WORDS, &mut self.following).await;
        let answers = self.seen.take();
        let last = answers.iter().map(Answer::ended).max().unwrap_or_default();
        let heard = held(&self.heard);
        Ok(Recording {
            from: Vantage::Inside,
            began: heard.began.unwrap_or_default(),
            ended: heard.end.map_or(last, |(at, _)| at),
            lag: heard.end.map(|(_, lag)| lag),
            lost: heard.lost,
            clock: heard.clock,
            answers,
        })
    }
}

fn held(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the log to the prober's last words. Its lines are numbered: one that broke off is read
/// again from its start.
fn follow(
    pod: &HelperPod,
    heard: Arc<Mutex<Heard>>,
    seen: Seen,
) -> impl Future<Output = ()> + use<> {
    let mut reader = Reader::default();
    let to_its_end = helper_pod::hear(pod.pods(), pod.created().name_any(), move |line| {
        // Half a line, where the log broke off, and what the program complains of say nothing.
        let Ok(said) = reader.read(&line) else {
            return ControlFlow::Continue(());
        };
        if let Said::Answer(answer) = said {
            seen.add([answer]);
            return ControlFlow::Continue(());
        }
        let mut heard = held(&heard);
        heard.lost = reader.lost();
        match said {
            Said::Ready(began) => {
                heard.began = Some(began);
                heard.says(began);
            }
            Said::End(at, lag) => {
                heard.end = Some((at, lag));
                heard.says(at);
                return ControlFlow::Break(());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    async move { drop(to_its_end.await) }
}

fn pod(image: &str, owner: &Owner, spec: &Spec) -> Pod {
    let json = serde_json::to_string(spec).expect("a spec is JSON");
    let container = Container {
        name: PART.into(),
        image: Some(image.into()),
        env: Some(vec![EnvVar {
            name: "PROBER_SPEC".into(),
            value: Some(json),
            ..Default::default()
        }]),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(cpu(spec), "64Mi")),
            // A limit is kept by pauses of up to 100 ms, so that it is out of reach.
            limits: Some(quantities("1", "256Mi")),
            ..Default::default()
        }),
        ..Default::default()
    };
    let grace = spec.longest_timeout() + LAST_WORDS;
    let lifetime = START + Duration::from_secs_f64(spec.seconds) + grace;
    let mut pod = helper_pod::restricted(PART, owner, container, lifetime);
    let grace = i64::try_from(grace.as_secs()).ok();
    if let Some(pod) = &mut pod.spec {
        pod.termination_grace_period_seconds = grace;
    }
    pod
}

/// It holds 2,000 requests/s on the more of it, and comes before others where CPU is short: what
/// it measures is not to be its own wait for its turn. One that asks little takes little room.
fn cpu(spec: &Spec) -> &'static str {
    const LITTLE: f64 = 50.0;
    match spec.lanes.iter().map(|lane| lane.rate).sum::<f64>() {
        rate if rate <= LITTLE => "100m",
        _ => "400m",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    use ::prober::line::Writer;
    use ::prober::{Lane, Outcome};
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::access::MONITORING;
    use crate::cluster::mock::{Asked, Server};
    use crate::wait;

    const DEADLINE: Duration = Duration::from_secs(20);
    const LOOK_EVERY: Duration = Duration::from_millis(50);

    fn spec() -> Spec {
        let target = service(
            "market-data-service",
            "trii-platform",
            8000,
            "/quotes/ECOPETROL",
        );
        let mut lane = Lane::new_connection(target, 100.0);
        lane.timeout_seconds = 0.5;
        Spec {
            lanes: vec![lane],
            seconds: 60.0,
        }
    }

    /// What the log says at the time when it is read.
    type Log = Box<dyn Fn() -> String + Send + Sync>;

    fn said(log: impl Fn() -> String + Send + Sync + 'static) -> Log {
        Box::new(log)
    }

    /// A log of so many answers, which begins and ends now.
    fn log(answers: u64, lag: Option<Lag>) -> String {
        let (began, mut bytes) = (now(), Vec::new());
        let mut writer = Writer::ready(&mut bytes, began, vec!["new-connection".into()]).unwrap();
        for number in 0..answers {
            let answer = Answer {
                lane: "new-connection".into(),
                intended: began + number,
                sent_after: 1,
                took: 2,
                outcome: Outcome::Status(200),
                good: true,
                by: None,
                on: None,
            };
            writer.answer(&answer).unwrap();
        }
        if let Some(lag) = lag {
            writer.end(began + 20, lag).unwrap();
        }
        String::from_utf8(bytes).unwrap()
    }

    fn object(phase: &str) -> Value {
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "prober-a"},
            "status": {"phase": phase}})
    }

    /// A cluster whose pod runs until it is deleted, and says `logs`, the last one again
    /// and again.
    fn cluster(logs: Vec<Log>) -> Server {
        let (asked_for_log, deleted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Server::new(move |asked: &Asked| {
            if asked.path.ends_with("/log") {
                let times = asked_for_log.fetch_add(1, SeqCst);
                let log = &logs[times.min(logs.len() - 1)];
                return (200, Value::String(log()));
            }
            if asked.method == "DELETE" {
                deleted.store(1, SeqCst);
            }
            match (asked.method.as_str(), deleted.load(SeqCst)) {
                ("POST", _) => (201, object("Pending")),
                (_, 0) => (200, object("Running")),
                _ => (200, object("Succeeded")),
            }
        })
    }

    /// On a task of its own, as any caller may want it.
    async fn start(server: &Server) -> Result<Inside, InsideError> {
        let client = server.cluster(MONITORING).client().clone();
        let started = tokio::spawn(async move {
            let ours = ("prober:1", &Owner::this_process());
            Inside::start(client, MONITORING, ours, &spec(), DEADLINE).await
        });
        started.await.unwrap()
    }

    async fn is_deleted(server: &Server) {
        let seen = wait::until("the pod is deleted", DEADLINE, LOOK_EVERY, async || {
            let requests = server.requests();
            match requests.iter().any(|asked| asked.method == "DELETE") {
                true => Observation::Ready(()),
                false => Observation::NotYet(format!("{requests:?}")),
            }
        });
        seen.await.unwrap();
    }

    #[tokio::test]
    async fn its_log_is_its_answers_even_when_that_breaks_off() {
        let whole = || log(10, Some(Lag::default()));
        let half = move || whole()[..whole().len() / 2].to_owned();
        let server = cluster(vec![said(half), said(whole)]);
        let recording = start(&server).await.unwrap().end().await.unwrap();
        assert_eq!((recording.answers.len(), recording.lost), (10, 0));
        assert!(recording.began < recording.ended);
        assert_eq!(recording.inconclusive(), None);
        is_deleted(&server).await;
    }

    #[tokio::test]
    async fn one_whose_clock_is_off_is_not_told_by_this_machines_moments() {
        let of_an_hour_ago = || {
            let mut bytes = Vec::new();
            let began = now() - 3_600_000_000;
            let lanes = vec!["new-connection".into()];
            let mut writer = Writer::ready(&mut bytes, began, lanes).unwrap();
            writer.end(began + 20, Lag::default()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let server = cluster(vec![said(of_an_hour_ago)]);
        let recording = start(&server).await.unwrap().end().await.unwrap();
        let clock = recording.clock.unwrap();
        let hour = -3_600_000_000;
        assert!(clock.least <= hour && clock.most >= hour, "{clock}");
        let why = recording.inconclusive().unwrap();
        assert!(why.starts_with("its clock is -36"), "{why}");
    }

    #[tokio::test]
    async fn without_its_last_words_it_proves_nothing() {
        let server = cluster(vec![said(|| log(10, None))]);
        let recording = start(&server).await.unwrap().end().await.unwrap();
        assert_eq!((recording.answers.len(), recording.lag), (10, None));
        assert!(recording.inconclusive().is_some());
    }

    #[tokio::test]
    async fn lines_that_are_missing_are_counted() {
        let server = cluster(vec![said(|| {
            let whole = log(10, Some(Lag::default()));
            let gone = whole.lines().filter(|line| !line.starts_with("[4,"));
            gone.collect::<Vec<_>>().join("\n")
        })]);
        let recording = start(&server).await.unwrap().end().await.unwrap();
        assert_eq!((recording.answers.len(), recording.lost), (9, 1));
        assert!(recording.inconclusive().unwrap().contains("lost"));
    }

    #[tokio::test]
    async fn its_pod_is_restricted_bounded_and_found() {
        let server = cluster(vec![said(|| log(1, Some(Lag::default())))]);
        start(&server).await.unwrap().end().await.unwrap();
        let created = &server.requests()[0];
        assert_eq!(created.path, "/api/v1/namespaces/trii-monitoring/pods");
        let mut pod = created.body.clone();
        let owner = &mut pod["metadata"]["labels"]["trii.rehearsal/owner"];
        assert_eq!(owner.as_str().unwrap().len(), 16);
        *owner = "ours".into();
        insta::assert_json_snapshot!(pod);
    }

    #[tokio::test]
    async fn one_that_complains_is_quoted_and_deleted() {
        let server = Server::new(|asked: &Asked| match asked.method.as_str() {
            "POST" => (201, object("Pending")),
            _ if asked.path.ends_with("/log") => {
                (200, "prober: market-data-service does not resolve\n".into())
            }
            _ if asked.path.ends_with("/pods") => {
                let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {},
                    "items": [object("Failed")]});
                (200, list)
            }
            // It ends once it has been seen to run.
            _ => (200, object("Failed")),
        });
        let client = server.cluster(MONITORING).client().clone();
        let ours = ("prober:1", &Owner::this_process());
        let error = Inside::start(client, MONITORING, ours, &spec(), DEADLINE).await;
        let error = error.err().unwrap().to_string();
        assert!(
            error.starts_with("the prober's pod trii-monitoring/prober-a runs: it never will be"),
            "{error}"
        );
        assert!(error.ends_with("it said: prober: market-data-service does not resolve"));
        is_deleted(&server).await;
    }

    #[tokio::test]
    async fn dropped_it_is_deleted() {
        let server = cluster(vec![said(|| log(1, None))]);
        drop(start(&server).await.unwrap());
        is_deleted(&server).await;
    }

    #[tokio::test]
    async fn what_cannot_be_followed_makes_no_pod() {
        let server = cluster(vec![said(|| log(1, None))]);
        let client = server.cluster(MONITORING).client().clone();
        let mut spec = spec();
        spec.lanes[0].rate = 0.0;
        let ours = ("prober:1", &Owner::this_process());
        let error = Inside::start(client, MONITORING, ours, &spec, DEADLINE).await;
        assert!(matches!(error.err(), Some(InsideError::Spec(_))));
        assert!(server.requests().is_empty());
    }

    #[tokio::test]
    async fn those_that_were_left_are_swept_by_their_labels() {
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []});
        let server = Server::new(move |_| (200, list.clone()));
        let client = server.cluster(MONITORING).client().clone();
        close_all(client, MONITORING, &Owner::this_process())
            .await
            .unwrap();
        let asked = &server.requests()[0];
        assert_eq!(asked.method, "DELETE");
        assert!(
            asked.query.contains("trii.rehearsal%2Fpart%3Dprober%2C"),
            "{}",
            asked.query
        );
    }
}
