//! What users were answered, as it comes in.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use jiff::Timestamp;
use prober::micros;
use thiserror::Error;

use crate::open::Names;
use crate::raw_log::{self, Sink};
use crate::result::{Counted, Endpoint};
use crate::versions::Versions;

/// One request that has ended.
pub struct Sample {
    /// The endpoint's name.
    pub endpoint: &'static str,
    /// When it was sent.
    pub sent: Instant,
    /// From then to the end of the answer, or of waiting for it.
    pub took: Duration,
    /// The answer's status.
    pub status: Result<u16, Unanswered>,
    /// Bytes of the answer's body.
    pub received: u64,
    /// What was wrong with it, by name.
    pub failure: Option<String>,
}

/// The few ways in which there is no answer: failures are counted by these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unanswered {
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// Nothing listens.
    #[error("connection refused")]
    Refused,
    /// There is no way there, or TLS was not agreed upon.
    #[error("no connection")]
    NoConnection,
    /// It is none.
    #[error("a request that cannot be sent")]
    Unsendable,
    /// The connection ended before the whole answer was there.
    #[error("connection broken off")]
    BrokenOff,
    /// In flight when a run that was called off had no more time.
    #[error("cut off: no answer when the run ended")]
    CutOff,
}

/// Adds up what every user was answered.
pub struct Recorder(Mutex<State>);

struct State {
    begun: Instant,
    begun_at: Timestamp,
    block: Duration,
    /// Since they were taken last.
    endpoints: BTreeMap<&'static str, Counted>,
    versions: Versions,
    log: Option<Log>,
}

/// Where each request is put on record.
pub(super) struct Log {
    pub names: Names,
    pub sink: Sink,
}

impl Default for Recorder {
    fn default() -> Self {
        let (begun, begun_at) = (Instant::now(), Timestamp::now());
        Recorder(Mutex::new(State::of(begun, begun_at, Duration::MAX, None)))
    }
}

impl State {
    fn of(begun: Instant, begun_at: Timestamp, block: Duration, log: Option<Log>) -> Self {
        State {
            begun,
            begun_at,
            block,
            endpoints: BTreeMap::new(),
            versions: Versions::default(),
            log,
        }
    }
}

impl Recorder {
    /// Blocks, so long each, are counted from `begun`.
    pub(super) fn begin(&self, begun: (Instant, Timestamp), block: Duration, log: Option<Log>) {
        *self.state() = State::of(begun.0, begun.1, block, log);
    }

    /// Counts a request, in the block that it was sent in.
    pub fn record(&self, sample: Sample) {
        let mut state = self.state();
        let since = sample.sent.saturating_duration_since(state.begun);
        if let Some(log) = &mut state.log {
            log.put(&sample, since);
        }
        let number = since.as_nanos() / state.block.as_nanos();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let counted = state.endpoints.entry(sample.endpoint).or_default();
        // A user sends when it means to: there is no other intended time.
        let (times, failed) = ((sample.took, sample.took), sample.failure.is_some());
        counted.ended(number, times, sample.received, failed);
        let endpoint = &mut counted.endpoint;
        if let Ok(status) = sample.status {
            *endpoint.statuses.entry(status).or_default() += 1;
        }
        if let Some(failure) = sample.failure {
            endpoint.failed(&failure, 1);
        }
    }

    /// Notes who answered.
    pub fn answered(&self, headers: &HeaderMap) {
        self.state().versions.note(headers);
    }

    /// How long it goes on, and what was counted since the last time.
    pub(super) fn news(&self) -> (Duration, BTreeMap<String, Endpoint>) {
        let mut state = self.state();
        let elapsed = state.begun.elapsed();
        let news = mem::take(&mut state.endpoints);
        drop(state);
        let news = news.into_iter();
        let named = news.filter_map(|(name, counted)| Some((name.to_owned(), counted.endpoint()?)));
        (elapsed, named.collect())
    }

    /// When it began, and who answered; what comes in later belongs to no run.
    pub(super) fn end(&self) -> (Timestamp, Versions) {
        let (begun, begun_at) = (Instant::now(), Timestamp::now());
        let none = State::of(begun, begun_at, Duration::MAX, None);
        let state = mem::replace(&mut *self.state(), none);
        (state.begun_at, state.versions)
    }

    /// Counts are whole also where a user's step panicked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn put(&mut self, sample: &Sample, since: Duration) {
        let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        self.sink.put(raw_log::Record {
            intended: micros(since),
            lag: 0,
            took: short(micros(sample.took)),
            received: short(sample.received),
            name: self.names.number(sample.endpoint),
            outcome: match sample.status {
                Ok(status) => raw_log::Outcome::Status {
                    status,
                    good: sample.failure.is_none(),
                },
                Err(unanswered) => unanswered.logged(),
            },
        });
    }
}

impl Unanswered {
    fn logged(self) -> raw_log::Outcome {
        match self {
            Unanswered::TimedOut => raw_log::Outcome::TimedOut,
            Unanswered::Refused => raw_log::Outcome::Refused,
            Unanswered::NoConnection | Unanswered::Unsendable => raw_log::Outcome::Unreachable,
            Unanswered::BrokenOff => raw_log::Outcome::Reset,
            Unanswered::CutOff => raw_log::Outcome::Unanswered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Block;

    fn sample(sent: Instant, failure: Option<&str>) -> Sample {
        Sample {
            endpoint: "GET /quotes",
            sent,
            took: Duration::from_millis(3),
            status: Ok(200),
            received: 10,
            failure: failure.map(str::to_owned),
        }
    }

    #[test]
    fn a_request_counts_in_the_block_that_it_was_sent_in() {
        let recorder = Recorder::default();
        let begun = Instant::now();
        // A clock that is set says nothing of time.
        recorder.begin((begun, Timestamp::MIN), Duration::from_secs(2), None);
        for (millis, failure) in [(0, None), (1_999, Some("status 500")), (4_000, None)] {
            recorder.record(sample(begun + Duration::from_millis(millis), failure));
        }
        let (_, news) = recorder.news();
        let endpoint = &news["GET /quotes"];
        let counts = |block: &Block| (block.requests, block.failed, block.received);
        let blocks = endpoint.blocks.iter();
        let blocks: Vec<_> = blocks.map(|(at, block)| (*at, counts(block))).collect();
        assert_eq!(blocks, [(0, (2, 1, 20)), (2, (1, 0, 10))]);
        assert_eq!(endpoint.whole().latency, endpoint.service_time);
        assert_eq!(endpoint.statuses[&200], 3);
        assert_eq!(endpoint.failures["status 500"], 1);
        assert!(recorder.news().1.is_empty(), "it is told once");
    }
}
