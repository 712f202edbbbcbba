//! Records the results of all users' requests.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use jiff::Timestamp;
use prober::{IdentityHeaders, micros};
use thiserror::Error;

use crate::names::Names;
use crate::raw_log::{RawOutcome, RawRecord, Sink};
use crate::result::{EndedRequest, Endpoint, EndpointCounts};
use crate::versions::Versions;

/// One request that has ended.
pub struct RequestRecord {
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// When it was sent.
    pub sent: Instant,
    /// From then until the response was complete or the request failed.
    pub took: Duration,
    /// The response's status.
    pub status: Result<u16, Unanswered>,
    /// Bytes of the response's body.
    pub received: u64,
    /// The reason if it counts as failed.
    pub failure: Option<String>,
}

/// Why there was no response. Failures are counted by these messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unanswered {
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// Nothing listens.
    #[error("connection refused")]
    Refused,
    /// There is no route to the server, or the TLS handshake failed.
    #[error("no connection")]
    NoConnection,
    /// The request is invalid.
    #[error("a request that cannot be sent")]
    Unsendable,
    /// The connection ended before the response was complete.
    #[error("connection broken off")]
    BrokenOff,
    /// In flight when an interrupted run's time to drain was over.
    #[error("cut off: no answer when the run ended")]
    CutOff,
}

/// Adds up the results of all users.
#[derive(Default)]
pub struct UserRecorder {
    /// The headers that name what answered.
    headers: IdentityHeaders,
    state: Mutex<RecorderState>,
}

struct RecorderState {
    begun: Instant,
    begun_at: Timestamp,
    block: Duration,
    /// What was counted since the last call of `since_last`.
    endpoints: BTreeMap<Arc<str>, EndpointCounts>,
    versions: Versions,
    log: Option<RecorderLog>,
}

/// Writes requests to the raw log.
pub(crate) struct RecorderLog {
    pub names: Names,
    pub sink: Sink,
}

/// Without a run, all requests count in one block.
impl Default for RecorderState {
    fn default() -> Self {
        RecorderState {
            begun: Instant::now(),
            begun_at: Timestamp::now(),
            block: Duration::MAX,
            endpoints: BTreeMap::new(),
            versions: Versions::default(),
            log: None,
        }
    }
}

impl UserRecorder {
    /// Records the versions that these headers name.
    pub fn new(headers: IdentityHeaders) -> UserRecorder {
        UserRecorder {
            headers,
            ..UserRecorder::default()
        }
    }

    /// Starts a run at `begun`, with blocks of this length.
    pub(crate) fn begin(
        &self,
        (begun, begun_at): (Instant, Timestamp),
        block: Duration,
        log: Option<RecorderLog>,
    ) {
        *self.state() = RecorderState {
            begun,
            begun_at,
            block,
            log,
            ..RecorderState::default()
        };
    }

    /// Counts a request in the block in which it was sent.
    pub fn record(&self, sample: RequestRecord) {
        let mut state = self.state();
        let since = sample.sent.saturating_duration_since(state.begun);
        if let Some(log) = &mut state.log {
            log.put(&sample, since);
        }
        let number = since.as_nanos() / state.block.as_nanos();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let counted = state.endpoints.entry(sample.endpoint).or_default();
        counted.ended(EndedRequest {
            block: number,
            arrives: false,
            // A user's request is due when it is sent.
            latency: sample.took,
            service_time: sample.took,
            status: sample.status.ok(),
            received: sample.received,
            failure: sample.failure.as_deref(),
        });
    }

    /// Records the version that answered.
    pub fn answered(&self, headers: &HeaderMap) {
        self.state().versions.note(&self.headers, headers);
    }

    /// Returns how long the run has lasted, and what was counted since the last call.
    pub(crate) fn since_last(&self) -> (Duration, BTreeMap<String, Endpoint>) {
        let mut state = self.state();
        let elapsed = state.begun.elapsed();
        let since_last = mem::take(&mut state.endpoints);
        drop(state);
        let endpoints = since_last.into_iter();
        let endpoints =
            endpoints.filter_map(|(name, counts)| Some((name.to_string(), counts.endpoint()?)));
        (elapsed, endpoints.collect())
    }

    /// Ends the run. Returns when it started, and the versions that answered.
    pub(crate) fn end(&self) -> (Timestamp, Versions) {
        let state = mem::take(&mut *self.state());
        (state.begun_at, state.versions)
    }

    /// Returns the state, which is valid even if a user's step panicked.
    fn state(&self) -> MutexGuard<'_, RecorderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecorderLog {
    fn put(&mut self, sample: &RequestRecord, since: Duration) {
        let saturated = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        self.sink.put(RawRecord {
            intended: micros(since),
            lag: 0,
            took: saturated(micros(sample.took)),
            received: saturated(sample.received),
            name: self.names.number(&sample.endpoint),
            follows: false,
            outcome: match sample.status {
                Ok(status) => RawOutcome::Status {
                    status,
                    good: sample.failure.is_none(),
                },
                Err(unanswered) => unanswered.outcome(),
            },
        });
    }
}

impl Unanswered {
    fn outcome(self) -> RawOutcome {
        match self {
            Unanswered::TimedOut => RawOutcome::TimedOut,
            Unanswered::Refused => RawOutcome::Refused,
            Unanswered::NoConnection | Unanswered::Unsendable => RawOutcome::Unreachable,
            Unanswered::BrokenOff => RawOutcome::Reset,
            Unanswered::CutOff => RawOutcome::Unanswered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Block;

    fn sample(sent: Instant, failure: Option<&str>) -> RequestRecord {
        RequestRecord {
            endpoint: "GET /quotes".into(),
            sent,
            took: Duration::from_millis(3),
            status: Ok(200),
            received: 10,
            failure: failure.map(str::to_owned),
        }
    }

    #[test]
    fn a_request_counts_in_the_block_that_it_was_sent_in() {
        let recorder = UserRecorder::default();
        let begun = Instant::now();
        // The wall clock has no effect: it may be set during the run.
        recorder.begin((begun, Timestamp::MIN), Duration::from_secs(2), None);
        for (millis, failure) in [(0, None), (1_999, Some("status 500")), (4_000, None)] {
            recorder.record(sample(begun + Duration::from_millis(millis), failure));
        }
        let (_, since_last) = recorder.since_last();
        let endpoint = &since_last["GET /quotes"];
        let counts = |block: &Block| (block.requests, block.failed, block.received);
        let blocks = endpoint.blocks.iter();
        let blocks: Vec<_> = blocks.map(|(at, block)| (*at, counts(block))).collect();
        assert_eq!(blocks, [(0, (2, 1, 20)), (2, (1, 0, 10))]);
        assert_eq!(endpoint.whole().latency, endpoint.service_time);
        assert_eq!(endpoint.statuses[&200], 3);
        assert_eq!(endpoint.failures["status 500"], 1);
        assert!(
            recorder.since_last().1.is_empty(),
            "requests are reported once"
        );
    }
}
