//! A prober in the cluster: a pod that writes its answers to its log.
//!
//! Its times are those of its node's clock. Phases are cut by this machine's clock, so they are
//! only as exact as the two clocks agree. The nodes of a kind cluster have this machine's clock,
//! unless the engine runs in a virtual machine or elsewhere. The first and the last line of the log
//! measure the difference.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::prober::output_line::{LineReader, ProberMessage};
use ::prober::{Answer, ClockDifference, Lag, ProbeTarget, Recording, Spec, SpecError, Vantage};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, ResourceRequirements};
use kube::api::DeleteParams;
use kube::{Client, ResourceExt};
use miette::Diagnostic;
use thiserror::Error;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Answers;
use crate::helper_pod::{self, HelperError, HelperPod, Owner, quantities};
use base::wait::Observation;

/// The name of its image, and the purpose of its pods.
pub const PART: &str = "prober";
/// For a pod to write the end of its log, after its last request.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of its lifetime for scheduling and start.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Returns the target for a path of a Service, as pods of any namespace reach it.
pub fn service(name: &str, namespace: &str, port: u16, path: &str) -> ProbeTarget {
    ProbeTarget::of(format!("http://{name}.{namespace}:{port}{path}"))
}

/// Deletes the pods of all probers of `owner` in `namespace`, after a cancellation.
///
/// # Errors
/// [`InsideError::Pod`].
pub async fn close_all(client: Client, namespace: &str, owner: &Owner) -> Result<(), InsideError> {
    let without_grace = DeleteParams::default().grace_period(0);
    Ok(helper_pod::delete_all::<Pod>(client, namespace, (PART, owner), &without_grace).await?)
}

/// A prober in the cluster cannot be started or stopped.
#[derive(Debug, Error, Diagnostic)]
pub enum InsideError {
    /// Its specification is invalid.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Spec(#[from] SpecError),
    /// Its pod cannot be created, started or deleted.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pod(#[from] HelperError),
}

/// A prober in the cluster. [`Inside::end`] or a drop deletes its pod. If that fails, the pod exits
/// after the time of its specification.
pub struct Inside {
    pod: HelperPod,
    log: Arc<Mutex<LogState>>,
    seen: Answers,
    following: AbortOnDropHandle<()>,
    longest_timeout: Duration,
    /// When it stops by itself.
    until: Instant,
}

/// The content of the log, without the answers.
#[derive(Default)]
struct LogState {
    began: Option<u64>,
    end: Option<(u64, Lag)>,
    /// When, by this machine's clock, the pod was created or its deletion was requested: before the
    /// next line with a time.
    requested: u64,
    clock: Option<ClockDifference>,
    lost: u64,
}

impl LogState {
    /// Narrows the clock difference with a time that the pod reported.
    fn compare_clocks(&mut self, reported: u64) {
        let difference = ClockDifference::of(reported, self.requested, now());
        self.clock = Some(
            self.clock
                .map_or(difference, |before| before.and(difference)),
        );
    }
}

/// Microseconds since the Unix epoch, by this machine's clock.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    ::prober::micros(since.unwrap_or_default())
}

impl Inside {
    /// Creates a pod of `image` for `owner` in `namespace`, and waits for at most `deadline` until
    /// it sends requests. If it does not, the pod is deleted.
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
        let (log, seen) = (Arc::<Mutex<LogState>>::default(), Answers::default());
        lock(&log).requested = now();
        // The pod's own grace period is long enough for requests in flight.
        let with_grace = DeleteParams::default();
        let pod =
            HelperPod::start(client, namespace, &pod(image, owner, spec), with_grace, end).await?;
        let following = follow(&pod, log.clone(), seen.clone());
        let following = AbortOnDropHandle::new(tokio::spawn(following));
        let followed = log.clone();
        let sends = move |state| match state {
            _ if lock(&followed).began.is_some() => Observation::Ready(()),
            Observation::Ready(()) => Observation::NotYet("its log does not report it".into()),
            other => other,
        };
        Ok(Inside {
            pod: pod.until_state("sends requests", end, sends).await?,
            log,
            seen,
            following,
            longest_timeout: spec.longest_timeout(),
            until: Instant::now() + Duration::from_secs_f64(spec.seconds),
        })
    }

    /// Returns the number of answers so far.
    pub fn so_far(&self) -> u64 {
        self.seen.look(|answers| answers.len() as u64)
    }

    /// Returns the answers so far.
    pub fn seen(&self) -> &Answers {
        &self.seen
    }

    /// Deletes the pod. Its later output is lost.
    ///
    /// # Errors
    /// [`InsideError::Pod`].
    pub async fn discard(self) -> Result<(), InsideError> {
        Ok(self.pod.delete().await?)
    }

    /// Deletes the pod, after its requests in flight: they take at most the longest timeout of a
    /// lane. Without the end of the log the recording is [inconclusive](Recording::inconclusive).
    ///
    /// # Errors
    /// [`InsideError::Pod`].
    pub async fn end(mut self) -> Result<Recording, InsideError> {
        // Otherwise the pod has already written the end of its log.
        if Instant::now() < self.until {
            lock(&self.log).requested = now();
        }
        self.pod.delete().await?;
        // After a timeout, the recording has the output so far.
        let _ = timeout(self.longest_timeout + END_TIMEOUT, &mut self.following).await;
        let answers = self.seen.take();
        let last = answers.iter().map(Answer::ended).max().unwrap_or_default();
        let log = lock(&self.log);
        Ok(Recording {
            from: Vantage::Inside,
            began: log.began.unwrap_or_default(),
            ended: log.end.map_or(last, |(at, _)| at),
            lag: log.end.map(|(_, lag)| lag),
            lost: log.lost,
            clock: log.clock,
            answers,
        })
    }
}

fn lock(log: &Mutex<LogState>) -> MutexGuard<'_, LogState> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the log to its end. A log that breaks off is read again from its start, and its lines are
/// numbered, so that none counts twice.
fn follow(
    pod: &HelperPod,
    log: Arc<Mutex<LogState>>,
    seen: Answers,
) -> impl Future<Output = ()> + use<> {
    let mut reader = LineReader::default();
    let following = helper_pod::follow_log(pod.pods(), pod.created().name_any(), move |line| {
        // The last line of a log that broke off, and error messages, are not messages.
        let Ok(message) = reader.read(&line) else {
            return ControlFlow::Continue(());
        };
        if let ProberMessage::Answer(answer) = message {
            seen.add([answer]);
            return ControlFlow::Continue(());
        }
        let mut log = lock(&log);
        log.lost = reader.lost();
        match message {
            ProberMessage::Ready(began) => {
                log.began = Some(began);
                log.compare_clocks(began);
            }
            ProberMessage::End(at, lag) => {
                log.end = Some((at, lag));
                log.compare_clocks(at);
                return ControlFlow::Break(());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    async move { drop(following.await) }
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
            // Out of reach: throttling at a limit adds pauses of up to 100 ms.
            limits: Some(quantities("1", "256Mi")),
            ..Default::default()
        }),
        ..Default::default()
    };
    let grace = spec.longest_timeout() + END_TIMEOUT;
    let lifetime = START_TIMEOUT + Duration::from_secs_f64(spec.seconds) + grace;
    let mut pod = helper_pod::restricted(PART, owner, container, lifetime);
    if let Some(spec) = &mut pod.spec {
        spec.termination_grace_period_seconds = i64::try_from(grace.as_secs()).ok();
    }
    pod
}

/// Returns the CPU request. 400m is enough for 2,000 requests/s, and gives the pod priority when
/// CPU is short: it must not measure its own wait for CPU. A low rate needs less.
fn cpu(spec: &Spec) -> &'static str {
    const LOW_RATE: f64 = 50.0;
    match spec.lanes.iter().map(|lane| lane.rate).sum::<f64>() {
        rate if rate <= LOW_RATE => "100m",
        _ => "400m",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    use ::prober::output_line::LineWriter;
    use ::prober::{IdentityHeaders, Lane, RequestOutcome};
    use hyper::header::HeaderName;
    use serde_json::{Value, json};

    use super::*;
    use crate::mock::{ApiRequest, MockServer};
    use base::wait;

    const DEADLINE: Duration = Duration::from_secs(20);
    const PAUSE: Duration = Duration::from_millis(50);
    const HELPERS: &str = "helpers";

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
            headers: IdentityHeaders {
                version: Some(HeaderName::from_static("x-trii-version")),
                ..IdentityHeaders::default()
            },
        }
    }

    /// The content of the log at the time when it is read.
    type Log = Box<dyn Fn() -> String + Send + Sync>;

    fn boxed(log: impl Fn() -> String + Send + Sync + 'static) -> Log {
        Box::new(log)
    }

    /// Returns a log of this number of answers, which begins and ends now.
    fn log(answers: u64, lag: Option<Lag>) -> String {
        let (began, mut bytes) = (now(), Vec::new());
        let mut writer =
            LineWriter::ready(&mut bytes, began, vec!["new-connection".into()]).unwrap();
        for number in 0..answers {
            let answer = Answer {
                lane: "new-connection".into(),
                intended: began + number,
                sent_after: 1,
                took: 2,
                outcome: RequestOutcome::Status(200),
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

    /// A cluster whose pod runs until it is deleted. Successive reads of its log return `logs`, and
    /// then the last one again.
    fn cluster(logs: Vec<Log>) -> MockServer {
        let (log_reads, deleted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        MockServer::new(move |request: &ApiRequest| {
            if request.path.ends_with("/log") {
                let read = log_reads.fetch_add(1, SeqCst);
                let log = &logs[read.min(logs.len() - 1)];
                return (200, Value::String(log()));
            }
            if request.method == "DELETE" {
                deleted.store(1, SeqCst);
            }
            match (request.method.as_str(), deleted.load(SeqCst)) {
                ("POST", _) => (201, object("Pending")),
                (_, 0) => (200, object("Running")),
                _ => (200, object("Succeeded")),
            }
        })
    }

    /// On its own task, which needs a `Send` future.
    async fn start(server: &MockServer) -> Result<Inside, InsideError> {
        let client = server.cluster(HELPERS).client().clone();
        let started = tokio::spawn(async move {
            let ours = ("prober:1", &Owner::this_process());
            Inside::start(client, HELPERS, ours, &spec(), DEADLINE).await
        });
        started.await.unwrap()
    }

    async fn is_deleted(server: &MockServer) {
        let deleted = wait::until("the pod is deleted", DEADLINE, PAUSE, async || {
            let requests = server.requests();
            match requests.iter().any(|it| it.method == "DELETE") {
                true => Observation::Ready(()),
                false => Observation::NotYet(format!("{requests:?}")),
            }
        });
        deleted.await.unwrap();
    }

    #[tokio::test]
    async fn a_log_that_breaks_off_is_read_again() {
        let complete = || log(10, Some(Lag::default()));
        let half = move || complete()[..complete().len() / 2].to_owned();
        let server = cluster(vec![boxed(half), boxed(complete)]);
        let recording = start(&server).await.unwrap().end().await.unwrap();
        assert_eq!((recording.answers.len(), recording.lost), (10, 0));
        assert!(recording.began < recording.ended);
        assert_eq!(recording.inconclusive(), None);
        is_deleted(&server).await;
    }

    #[tokio::test]
    async fn a_wrong_clock_makes_the_recording_inconclusive() {
        let of_an_hour_ago = || {
            let mut bytes = Vec::new();
            let began = now() - 3_600_000_000;
            let lanes = vec!["new-connection".into()];
            let mut writer = LineWriter::ready(&mut bytes, began, lanes).unwrap();
            writer.end(began + 20, Lag::default()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let server = cluster(vec![boxed(of_an_hour_ago)]);
        let recording = start(&server).await.unwrap().end().await.unwrap();
        let clock = recording.clock.unwrap();
        let hour = -3_600_000_000;
        assert!(clock.least <= hour && clock.most >= hour, "{clock}");
        let why = recording.inconclusive().unwrap();
        assert!(why.starts_with("its clock is -36"), "{why}");
    }

    #[tokio::test]
    async fn a_log_without_its_end_makes_the_recording_inconclusive() {
        let server = cluster(vec![boxed(|| log(10, None))]);
        let recording = start(&server).await.unwrap().end().await.unwrap();
        assert_eq!((recording.answers.len(), recording.lag), (10, None));
        assert!(recording.inconclusive().is_some());
    }

    #[tokio::test]
    async fn missing_lines_are_counted() {
        let server = cluster(vec![boxed(|| {
            let complete = log(10, Some(Lag::default()));
            let others = complete.lines().filter(|line| !line.starts_with("[4,"));
            others.collect::<Vec<_>>().join("\n")
        })]);
        let recording = start(&server).await.unwrap().end().await.unwrap();
        assert_eq!((recording.answers.len(), recording.lost), (9, 1));
        assert!(recording.inconclusive().unwrap().contains("lost"));
    }

    #[tokio::test]
    async fn its_pod_is_restricted_bounded_and_found() {
        let server = cluster(vec![boxed(|| log(1, Some(Lag::default())))]);
        start(&server).await.unwrap().end().await.unwrap();
        let created = &server.requests()[0];
        assert_eq!(created.path, "/api/v1/namespaces/helpers/pods");
        let mut pod = created.body.clone();
        let owner = &mut pod["metadata"]["labels"]["trii.rehearsal/owner"];
        assert_eq!(owner.as_str().unwrap().len(), 16);
        *owner = "ours".into();
        insta::assert_json_snapshot!(pod);
    }

    #[tokio::test]
    async fn a_pod_that_fails_is_quoted_and_deleted() {
        let server = MockServer::new(|request: &ApiRequest| match request.method.as_str() {
            "POST" => (201, object("Pending")),
            _ if request.path.ends_with("/log") => {
                (200, "prober: market-data-service does not resolve\n".into())
            }
            _ if request.path.ends_with("/pods") => {
                let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {},
                    "items": [object("Failed")]});
                (200, list)
            }
            _ => (200, object("Failed")),
        });
        let client = server.cluster(HELPERS).client().clone();
        let ours = ("prober:1", &Owner::this_process());
        let error = Inside::start(client, HELPERS, ours, &spec(), DEADLINE).await;
        let error = error.err().unwrap().to_string();
        assert!(
            error.starts_with("the prober's pod helpers/prober-a runs: gave up"),
            "{error}"
        );
        assert!(error.ends_with("its last output: prober: market-data-service does not resolve"));
        is_deleted(&server).await;
    }

    #[tokio::test]
    async fn a_drop_deletes_the_pod() {
        let server = cluster(vec![boxed(|| log(1, None))]);
        drop(start(&server).await.unwrap());
        is_deleted(&server).await;
    }

    #[tokio::test]
    async fn an_invalid_specification_creates_no_pod() {
        let server = cluster(vec![boxed(|| log(1, None))]);
        let client = server.cluster(HELPERS).client().clone();
        let mut spec = spec();
        spec.lanes[0].rate = 0.0;
        let ours = ("prober:1", &Owner::this_process());
        let error = Inside::start(client, HELPERS, ours, &spec, DEADLINE).await;
        assert!(matches!(error.err(), Some(InsideError::Spec(_))));
        assert!(server.requests().is_empty());
    }

    #[tokio::test]
    async fn remaining_pods_are_deleted_by_their_labels() {
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []});
        let server = MockServer::new(move |_| (200, list.clone()));
        let client = server.cluster(HELPERS).client().clone();
        close_all(client, HELPERS, &Owner::this_process())
            .await
            .unwrap();
        let request = &server.requests()[0];
        assert_eq!(request.method, "DELETE");
        let query = &request.query;
        let selector = "trii.rehearsal%2Fpart%3Dprober%2C";
        assert!(query.contains(selector), "{query}");
    }
}
