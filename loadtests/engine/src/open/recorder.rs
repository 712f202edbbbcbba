//! Records what happens to a worker's arrivals.

use std::borrow::Cow;
use std::mem;
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::HeaderMap;
use prober::{IdentityHeaders, RequestOutcome, micros};
use tokio::time::Instant;

use super::journeys::DueRequest;
use crate::raw_log::{RawOutcome, RawRecord, Sink};
use crate::result::{EndedRequest, EndpointCounts, count, growing};
use crate::versions::Versions;

/// How a request ended.
pub struct RequestResult {
    /// The status, if there was one.
    pub status: Option<u16>,
    /// Bytes of the body.
    pub received: u64,
    /// The reason if it counts as failed.
    pub failure: Option<FailureReason>,
}

/// Why a request counts as failed.
pub enum FailureReason {
    /// No complete response.
    Outcome(RequestOutcome),
    /// A response that is not good, by the name of the failure.
    Answer(String),
    /// It could not be made.
    Unsendable(String),
    /// In flight when the run's time to drain was over.
    Unanswered,
}

impl RequestResult {
    pub fn failed(failure: FailureReason) -> RequestResult {
        RequestResult {
            status: None,
            received: 0,
            failure: Some(failure),
        }
    }
}

/// What a worker counted since its last report.
pub struct WorkerCounts {
    /// By the number of their name.
    pub endpoints: Vec<EndpointCounts>,
    /// Of all arrivals, including dropped ones.
    pub lag: Histogram<u32>,
    /// Dropped requests for which there was no port or file.
    pub without_port: u64,
    /// The versions that answered.
    pub versions: Versions,
}

/// Counts and logs arrivals.
pub struct ArrivalRecorder {
    counts: WorkerCounts,
    block: Duration,
    headers: IdentityHeaders,
    log: Option<Sink>,
}

impl ArrivalRecorder {
    pub fn new(block: Duration, headers: IdentityHeaders, log: Option<Sink>) -> ArrivalRecorder {
        ArrivalRecorder {
            counts: WorkerCounts::default(),
            block,
            headers,
            log,
        }
    }

    /// Returns what was counted since the last call.
    pub fn take(&mut self) -> WorkerCounts {
        mem::take(&mut self.counts)
    }

    /// Records the headers of a response.
    pub fn answered(&mut self, headers: &HeaderMap) {
        self.counts.versions.note(&self.headers, headers);
    }

    /// Records an arrival that was not sent, by its first request.
    pub fn dropped(&mut self, request: DueRequest) {
        let lag = request.due.elapsed();
        count(&mut self.counts.lag, lag);
        let block = self.block_of(request);
        self.counts.of(request.name).dropped(block);
        self.log(request, (lag, Duration::ZERO), 0, RawOutcome::Dropped);
    }

    /// Records a request for which there was no port or file.
    pub fn without_port(&mut self, request: DueRequest) {
        self.counts.without_port += 1;
        self.dropped(request);
    }

    /// Records a request that was `sent`, and has ended now.
    pub fn ended(&mut self, request: DueRequest, sent: Instant, ending: RequestResult) {
        let now = Instant::now();
        let (lag, took) = (sent - request.due, now - sent);
        if !request.follows {
            count(&mut self.counts.lag, lag);
        }
        let block = self.block_of(request);
        let failure = ending.failure.as_ref().map(|failure| match failure {
            FailureReason::Outcome(outcome) => Cow::Owned(outcome.to_string()),
            FailureReason::Answer(name) => Cow::Borrowed(name.as_str()),
            FailureReason::Unsendable(why) => {
                Cow::Owned(format!("a request that cannot be sent: {why}"))
            }
            FailureReason::Unanswered => Cow::Borrowed("not answered before the end"),
        });
        self.counts.of(request.name).ended(EndedRequest {
            block,
            arrives: !request.follows,
            latency: now - request.due,
            service_time: took,
            status: ending.status,
            received: ending.received,
            failure: failure.as_deref(),
        });
        let outcome = raw_outcome(&ending);
        self.log(request, (lag, took), ending.received, outcome);
    }

    fn block_of(&self, request: DueRequest) -> u32 {
        let block = request.after.as_nanos() / self.block.as_nanos();
        u32::try_from(block).expect("a run has fewer blocks than there are numbers")
    }

    fn log(
        &mut self,
        request: DueRequest,
        (lag, took): (Duration, Duration),
        received: u64,
        outcome: RawOutcome,
    ) {
        if let Some(log) = &mut self.log {
            log.put(RawRecord {
                intended: micros(request.after),
                lag: saturated(micros(lag)),
                took: saturated(micros(took)),
                received: saturated(received),
                name: request.name,
                follows: request.follows,
                outcome,
            });
        }
    }
}

impl Default for WorkerCounts {
    fn default() -> WorkerCounts {
        WorkerCounts {
            endpoints: Vec::new(),
            lag: growing(),
            without_port: 0,
            versions: Versions::default(),
        }
    }
}

impl WorkerCounts {
    fn of(&mut self, name: u16) -> &mut EndpointCounts {
        let index = usize::from(name);
        if self.endpoints.len() <= index {
            self.endpoints
                .resize_with(index + 1, EndpointCounts::default);
        }
        &mut self.endpoints[index]
    }
}

fn raw_outcome(ending: &RequestResult) -> RawOutcome {
    match (&ending.failure, ending.status) {
        (Some(FailureReason::Outcome(outcome)), None) => match outcome {
            RequestOutcome::Refused => RawOutcome::Refused,
            RequestOutcome::Reset => RawOutcome::Reset,
            RequestOutcome::TimedOut => RawOutcome::TimedOut,
            RequestOutcome::Unreachable(_) => RawOutcome::Unreachable,
            RequestOutcome::Tls(_) => RawOutcome::Tls,
            RequestOutcome::Protocol(_) => RawOutcome::Protocol,
            RequestOutcome::Dropped => RawOutcome::Dropped,
            RequestOutcome::Status(status) | RequestOutcome::Problem(status, _) => {
                RawOutcome::Status {
                    status: *status,
                    good: false,
                }
            }
        },
        (failure, Some(status)) => RawOutcome::Status {
            status,
            good: failure.is_none(),
        },
        (_, None) => RawOutcome::Unanswered,
    }
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
