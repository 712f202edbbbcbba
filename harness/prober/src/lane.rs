//! Runs a lane: sends its requests when they are due.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{Answer, ConnectionUse, Identity, RequestOutcome};
use crate::clock::micros;
use crate::connection::{Connection, read};
use crate::identity_headers::IdentityHeaders;
use crate::recorder::AnswerRecorder;
use crate::spec::{Connections, Lane, ProberError};
use crate::transport::{HTTP_1_1, Transport};

/// The most bytes of a problem document: more than those of the platform. A longer one is not
/// reported, as each bad answer is a line of a pod's log, whose size is limited.
const PROBLEM: usize = 512;

/// Runs a lane.
pub struct LaneRunner {
    lane: Lane,
    name: Arc<str>,
    transport: Transport,
    path: Uri,
    host: HeaderValue,
    headers: IdentityHeaders,
    in_flight: Arc<Semaphore>,
    idle: Mutex<VecDeque<Connection>>,
    /// Has one more reference for each open connection.
    open: Arc<()>,
    recorder: Arc<AnswerRecorder>,
}

/// What is known about a request before it ends.
#[derive(Default)]
struct Trace {
    by: Option<Arc<Identity>>,
    on: Option<ConnectionUse>,
}

impl LaneRunner {
    /// Resolves the lane's target. `headers` name what answers.
    pub async fn new(
        lane: &Lane,
        headers: &IdentityHeaders,
        recorder: Arc<AnswerRecorder>,
    ) -> Result<LaneRunner, ProberError> {
        let wrong = |why| ProberError::Tls {
            url: lane.target.url.clone(),
            why,
        };
        let parts = lane.target.parts().map_err(wrong)?;
        let host = HeaderValue::from_str(&parts.authority);
        Ok(LaneRunner {
            name: lane.name.as_str().into(),
            transport: Transport::to(&lane.target, HTTP_1_1).await?,
            path: parts.path,
            host: host.map_err(|error| wrong(error.to_string()))?,
            in_flight: Arc::new(Semaphore::new(lane.max_in_flight)),
            idle: Mutex::default(),
            open: Arc::new(()),
            lane: lane.clone(),
            headers: headers.clone(),
            recorder,
        })
    }

    /// Starts each request when it is due, until `end` or `stop`. Requests in flight then
    /// continue in `tasks`.
    pub async fn run(
        self: Arc<Self>,
        (begin, end): (Instant, Instant),
        stop: CancellationToken,
        tasks: TaskTracker,
    ) {
        let mut stopped = std::pin::pin!(stop.cancelled());
        for number in 0_u64.. {
            let due = begin + Duration::from_secs_f64(number as f64 / self.lane.rate);
            if due >= end {
                break;
            }
            tokio::select! {
                biased;
                () = &mut stopped => break,
                () = sleep_until(due.into()) => {}
            }
            match self.in_flight.clone().try_acquire_owned() {
                Ok(permit) => {
                    let runner = self.clone();
                    tasks.spawn(async move {
                        runner.send(due).await;
                        drop(permit);
                    });
                }
                Err(_) => {
                    let late = due.elapsed();
                    self.record(due, (late, late), RequestOutcome::Dropped, Trace::default());
                }
            }
        }
    }

    async fn send(&self, due: Instant) {
        let sent_after = due.elapsed();
        let mut trace = Trace::default();
        let deadline = due + self.lane.timeout();
        let exchanged = timeout_at(deadline.into(), self.exchange(&mut trace)).await;
        let outcome = match exchanged {
            Ok(Ok(outcome) | Err(outcome)) => outcome,
            Err(_) => RequestOutcome::TimedOut,
        };
        self.record(due, (sent_after, due.elapsed()), outcome, trace);
    }

    /// Sends one request, once, and reads the whole response.
    async fn exchange(&self, trace: &mut Trace) -> Result<RequestOutcome, RequestOutcome> {
        loop {
            let mut connection = match self.take() {
                Some(idle) => idle,
                None => self.connect().await?,
            };
            connection.requests += 1;
            trace.by = connection.by.clone();
            trace.on = Some(ConnectionUse {
                connection: connection.number,
                request: connection.requests,
            });
            let Some(response) = connection.send(self.request()).await? else {
                match connection.requests {
                    1 => return Err(RequestOutcome::Reset),
                    // A server may close a connection between requests at any time.
                    _ => continue,
                }
            };
            let by = self.headers.identity(response.headers());
            let by = by.map(|by| self.recorder.interned(by));
            (trace.by, connection.by) = (by.clone(), by);
            let status = response.status().as_u16();
            let is_good = self.lane.is_good(status);
            let limit = if is_good { 0 } else { PROBLEM };
            let body = read(response.into_body(), limit).await?;
            self.keep(connection);
            return Ok(match is_good {
                true => RequestOutcome::Status(status),
                false => bad(status, &body),
            });
        }
    }

    async fn connect(&self) -> Result<Connection, RequestOutcome> {
        let number = self.recorder.connections.fetch_add(1, Relaxed) + 1;
        Connection::open(&self.transport, number, self.open.clone()).await
    }

    /// Returns the pooled connection that has been idle for the longest time, so that all are used
    /// in turn. None to open a new one.
    fn take(&self) -> Option<Connection> {
        let Connections::Pooled { at_least } = self.lane.connections else {
            return None;
        };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        // One reference is the runner's own.
        match Arc::strong_count(&self.open) - 1 < at_least {
            true => None,
            false => idle.pop_front(),
        }
    }

    fn keep(&self, connection: Connection) {
        if let Connections::Pooled { .. } = self.lane.connections {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push_back(connection);
        }
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static("trii-prober"));
        if self.lane.connections == Connections::New {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        request
    }

    fn record(
        &self,
        due: Instant,
        (sent_after, took): (Duration, Duration),
        outcome: RequestOutcome,
        trace: Trace,
    ) {
        let good = outcome
            .status()
            .is_some_and(|status| self.lane.is_good(status));
        self.recorder.record(Answer {
            lane: self.name.clone(),
            intended: self.recorder.clock.micros(due),
            sent_after: micros(sent_after),
            took: micros(took),
            outcome,
            good,
            by: trace.by,
            on: trace.on,
        });
    }
}

/// Returns the outcome of a bad status, with the detail of its problem document (RFC 9457, section
/// 3.1.4).
fn bad(status: u16, body: &[u8]) -> RequestOutcome {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => RequestOutcome::Problem(status, problem.detail),
        Err(_) => RequestOutcome::Status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ProbeTarget;

    /// Simulates a delay of the prober's thread.
    #[tokio::test]
    async fn latency_counts_from_when_a_request_was_due() {
        const LATE: Duration = Duration::from_millis(300);
        let target = ProbeTarget::of("http://127.0.0.1:1/");
        let (recorder, mut answers) = AnswerRecorder::new();
        let lane = Lane::new_connection(target, 1.0);
        let runner = LaneRunner::new(&lane, &IdentityHeaders::default(), recorder)
            .await
            .unwrap();
        runner.send(Instant::now() - LATE).await;
        let answer = answers.recv().await.unwrap();
        assert_eq!(answer.outcome, RequestOutcome::Refused);
        assert!(answer.sent_after >= micros(LATE), "{}", answer.sent_after);
        assert!(answer.took >= micros(LATE), "{}", answer.took);
    }
}
