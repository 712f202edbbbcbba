//! What users were answered, as it comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prober::micros;

use crate::result::{Block, Endpoint};

/// How long a block is, in milliseconds.
pub const BLOCK_MILLIS: u64 = 1000;

/// One request that has ended.
pub struct Sample {
    /// The endpoint's name.
    pub endpoint: &'static str,
    /// When it was sent.
    pub sent: Instant,
    /// From then to the end of the answer, or of waiting for it.
    pub took: Duration,
    /// The answer's status, where there was one.
    pub status: Option<u16>,
    /// Bytes of the answer's body.
    pub received: u64,
    /// What was wrong with it, by name.
    pub failure: Option<String>,
}

/// Adds up what every user was answered.
pub struct Recorder(Mutex<State>);

struct State {
    begun: Instant,
    begun_at: Timestamp,
    requests: u64,
    failed: u64,
    endpoints: BTreeMap<&'static str, Endpoint>,
    versions: BTreeMap<String, BTreeSet<String>>,
}

/// How it goes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Since it began.
    pub elapsed: Duration,
    /// Requests that have ended.
    pub requests: u64,
    /// Of those, the ones without a good answer.
    pub failed: u64,
}

/// All of it.
pub(super) struct Recorded {
    pub begun: Timestamp,
    pub endpoints: BTreeMap<String, Endpoint>,
    pub versions: BTreeMap<String, String>,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder(Mutex::new(State::now()))
    }
}

impl State {
    fn now() -> Self {
        State {
            begun: Instant::now(),
            begun_at: Timestamp::now(),
            requests: 0,
            failed: 0,
            endpoints: BTreeMap::new(),
            versions: BTreeMap::new(),
        }
    }
}

impl Recorder {
    /// Blocks are counted from now.
    pub(super) fn begin(&self) {
        *self.state() = State::now();
    }

    /// Counts a request, in the block that it was sent in.
    pub fn record(&self, sample: Sample) {
        let mut state = self.state();
        let since = sample.sent.saturating_duration_since(state.begun);
        state.requests += 1;
        state.failed += u64::from(sample.failure.is_some());
        let number = since.as_millis() / u128::from(BLOCK_MILLIS);
        let endpoint = state.endpoints.entry(sample.endpoint).or_default();
        let block = endpoint
            .blocks
            .entry(u32::try_from(number).unwrap_or(u32::MAX))
            .or_default();
        count(block, &sample);
        endpoint.service_time.record(micros(sample.took));
        if let Some(status) = sample.status {
            *endpoint.statuses.entry(status).or_default() += 1;
        }
        if let Some(failure) = sample.failure {
            *endpoint.failures.entry(failure).or_default() += 1;
        }
    }

    /// Notes in which version a service answered.
    pub fn answered_in(&self, service: &str, version: &str) {
        let mut state = self.state();
        let known = state.versions.get(service);
        if known.is_some_and(|known| known.contains(version)) {
            return;
        }
        let known = state.versions.entry(service.to_owned()).or_default();
        known.insert(version.to_owned());
    }

    /// How it goes so far.
    pub fn tally(&self) -> Tally {
        let state = self.state();
        Tally {
            elapsed: state.begun.elapsed(),
            requests: state.requests,
            failed: state.failed,
        }
    }

    /// All of it; what comes in later belongs to no run.
    pub(super) fn end(&self) -> Recorded {
        let state = std::mem::replace(&mut *self.state(), State::now());
        let endpoints = state.endpoints.into_iter();
        let versions = state.versions.into_iter();
        Recorded {
            begun: state.begun_at,
            endpoints: endpoints
                .map(|(name, endpoint)| (name.to_owned(), endpoint))
                .collect(),
            // Several, where a release was under way.
            versions: versions
                .map(|(service, all)| (service, all.into_iter().collect::<Vec<_>>().join(", ")))
                .collect(),
        }
    }

    /// Counts are whole also where a user's step panicked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(block: &mut Block, sample: &Sample) {
    block.requests += 1;
    block.failed += u64::from(sample.failure.is_some());
    block.received += sample.received;
    // A user sends when it means to: there is no other intended time.
    block.latency.record(micros(sample.took));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sent: Instant, failure: Option<&str>) -> Sample {
        Sample {
            endpoint: "GET /quotes",
            sent,
            took: Duration::from_millis(3),
            status: Some(200),
            received: 10,
            failure: failure.map(str::to_owned),
        }
    }

    #[test]
    fn a_request_counts_in_the_second_that_it_was_sent_in() {
        let recorder = Recorder::default();
        let begun = recorder.state().begun;
        for (millis, failure) in [(0, None), (999, Some("status 500")), (2_000, None)] {
            recorder.record(sample(begun + Duration::from_millis(millis), failure));
        }
        assert_eq!(recorder.tally().requests, 3);
        assert_eq!(recorder.tally().failed, 1);
        let endpoint = &recorder.end().endpoints["GET /quotes"];
        let counts = |block: &Block| (block.requests, block.failed, block.received);
        let blocks = endpoint.blocks.iter();
        let blocks: Vec<_> = blocks.map(|(at, block)| (*at, counts(block))).collect();
        assert_eq!(blocks, [(0, (2, 1, 20)), (2, (1, 0, 10))]);
        assert_eq!(endpoint.whole().latency, endpoint.service_time);
        assert_eq!(endpoint.statuses[&200], 3);
        assert_eq!(endpoint.failures["status 500"], 1);
    }

    #[test]
    fn the_versions_that_answered_are_told_each_once() {
        let recorder = Recorder::default();
        for version in ["v2.1.0", "v2.2.0", "v2.1.0"] {
            recorder.answered_in("api-gateway", version);
        }
        assert_eq!(recorder.end().versions["api-gateway"], "v2.1.0, v2.2.0");
    }
}
