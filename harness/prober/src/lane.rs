//! A lane at work: what is due, and what becomes of it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Request, Uri};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{Answer, Identity, On, Outcome};
use crate::clock::micros;
use crate::connection::{Connection, read};
use crate::probing::{Shared, StartError};
use crate::spec::{Connections, Lane};
use crate::way::{HTTP_1_1, Way};

/// More bytes than the platform's problem documents have. A longer one is not told: each bad
/// answer is a line of a pod's log, which is kept up to a size only.
const PROBLEM: usize = 512;

/// A lane at work.
pub struct Asker {
    lane: Lane,
    name: Arc<str>,
    way: Way,
    path: Uri,
    host: HeaderValue,
    in_flight: Arc<Semaphore>,
    idle: Mutex<VecDeque<Connection>>,
    /// One more of it for each open connection.
    open: Arc<()>,
    shared: Arc<Shared>,
}

/// What is known of a request that may yet end in any way.
#[derive(Default)]
struct Trace {
    by: Option<Arc<Identity>>,
    on: Option<On>,
}

impl Asker {
    /// Finds the way to a lane's target.
    pub async fn new(lane: &Lane, shared: Arc<Shared>) -> Result<Asker, StartError> {
        let wrong = |why| StartError::Tls {
            url: lane.target.url.clone(),
            why,
        };
        let parts = lane.target.parts().map_err(wrong)?;
        let host = HeaderValue::from_str(&parts.authority);
        Ok(Asker {
            name: lane.name.as_str().into(),
            way: Way::to(&lane.target, HTTP_1_1).await?,
            path: parts.path,
            host: host.map_err(|error| wrong(error.to_string()))?,
            in_flight: Arc::new(Semaphore::new(lane.max_in_flight)),
            idle: Mutex::default(),
            open: Arc::new(()),
            lane: lane.clone(),
            shared,
        })
    }

    /// Sets about each request when it is due, until `end` or `stop`. What is in flight then
    /// goes on, in `tasks`.
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
                    let asker = self.clone();
                    tasks.spawn(async move {
                        asker.ask(due).await;
                        drop(permit);
                    });
                }
                Err(_) => {
                    let late = due.elapsed();
                    self.tell(due, (late, late), Outcome::Dropped, Trace::default());
                }
            }
        }
    }

    async fn ask(&self, due: Instant) {
        let sent_after = due.elapsed();
        let mut trace = Trace::default();
        let deadline = due + self.lane.timeout();
        let exchanged = timeout_at(deadline.into(), self.exchange(&mut trace)).await;
        let outcome = match exchanged {
            Ok(Ok(outcome) | Err(outcome)) => outcome,
            Err(_) => Outcome::TimedOut,
        };
        self.tell(due, (sent_after, due.elapsed()), outcome, trace);
    }

    /// Sends one request, once, and reads the whole answer.
    async fn exchange(&self, trace: &mut Trace) -> Result<Outcome, Outcome> {
        loop {
            let mut connection = match self.take() {
                Some(idle) => idle,
                None => self.connect().await?,
            };
            connection.requests += 1;
            trace.by = connection.by.clone();
            trace.on = Some(On {
                connection: connection.number,
                request: connection.requests,
            });
            let Some(response) = connection.send(self.request()).await? else {
                match connection.requests {
                    1 => return Err(Outcome::Reset),
                    // Closed between requests, as a server may at any time: not this one's loss.
                    _ => continue,
                }
            };
            let by = identity(response.headers()).map(|by| self.shared.known(by));
            (trace.by, connection.by) = (by.clone(), by);
            let status = response.status().as_u16();
            let is_good = self.lane.is_good(status);
            let kept = if is_good { 0 } else { PROBLEM };
            let said = read(response.into_body(), kept).await?;
            self.keep(connection);
            return Ok(match is_good {
                true => Outcome::Status(status),
                false => bad(status, &said),
            });
        }
    }

    async fn connect(&self) -> Result<Connection, Outcome> {
        let number = self.shared.connections.fetch_add(1, Relaxed) + 1;
        Connection::open(&self.way, number, self.open.clone()).await
    }

    /// The kept connection that has been idle for longest, so that all are used in turn.
    fn take(&self) -> Option<Connection> {
        let Connections::Pooled { at_least } = self.lane.connections else {
            return None;
        };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        // One of them is our own.
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

    fn tell(
        &self,
        due: Instant,
        (sent_after, took): (Duration, Duration),
        outcome: Outcome,
        trace: Trace,
    ) {
        let good = outcome
            .status()
            .is_some_and(|status| self.lane.is_good(status));
        self.shared.tell(Answer {
            lane: self.name.clone(),
            intended: self.shared.clock.micros(due),
            sent_after: micros(sent_after),
            took: micros(took),
            outcome,
            good,
            by: trace.by,
            on: trace.on,
        });
    }
}

/// A bad answer, in its own words where it is a problem document (RFC 9457, section 3.1.4).
fn bad(status: u16, body: &[u8]) -> Outcome {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Outcome::Problem(status, problem.detail),
        Err(_) => Outcome::Status(status),
    }
}

/// Who signed an answer; none where nobody did.
fn identity(headers: &HeaderMap) -> Option<Identity> {
    let text = |name| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let identity = Identity {
        service: text("x-trii-service"),
        version: text("x-trii-version"),
        instance: text("x-trii-instance"),
    };
    (identity != Identity::default()).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Target;

    /// As where the prober's thread was held up: its users' time goes on.
    #[tokio::test]
    async fn what_is_sent_late_took_as_long_as_since_it_was_due() {
        const LATE: Duration = Duration::from_millis(300);
        let target = Target::of("http://127.0.0.1:1/");
        let (shared, mut answers) = Shared::new();
        let lane = Lane::new_connection(target, 1.0);
        let asker = Asker::new(&lane, shared).await.unwrap();
        asker.ask(Instant::now() - LATE).await;
        let answer = answers.recv().await.unwrap();
        assert_eq!(answer.outcome, Outcome::Refused);
        assert!(answer.sent_after >= micros(LATE), "{}", answer.sent_after);
        assert!(answer.took >= micros(LATE), "{}", answer.took);
    }
}
