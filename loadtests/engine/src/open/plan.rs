//! The plan of a load: which requests, how often, and how.

use std::time::Duration;

use miette::Diagnostic;
use prober::{IdentityHeaders, ProbeTarget};
use thiserror::Error;

use super::schedule::RateStage;
use crate::journey::{UserVariables, WrittenJourney};

/// The load to generate. It may have secrets, and is never printed.
#[derive(Clone)]
pub struct LoadPlan {
    /// Where requests go. Its URL is `{{api}}`.
    pub target: ProbeTarget,
    /// Which connections they use.
    pub connections: ConnectionMode,
    /// The rate of arrivals over time, stage by stage.
    pub stages: Vec<RateStage>,
    /// The journeys. Each arrival is one of them, by weight.
    pub journeys: Vec<WrittenJourney>,
    /// What they may read.
    pub users: UserVariables,
    /// From when a request was due to the last byte of its response. A request that takes longer
    /// fails, and counts with this time.
    pub timeout: Duration,
    /// An arrival that is due while this many are in flight is dropped, and counted. An arrival is
    /// in flight until its last request has ended.
    pub max_in_flight: usize,
    /// How long an interrupted run waits for the requests in flight, at most. After the last stage,
    /// arrivals in flight send no request later than this.
    pub drain: Duration,
    /// The number of threads. Each has its share of the arrivals and of `max_in_flight`.
    pub workers: usize,
    /// This generator's share of the arrivals.
    pub part: GeneratorShare,
    /// The headers that name what answered.
    pub headers: IdentityHeaders,
}

/// One of several generators of a load: it sends every `of`-th arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratorShare {
    /// The generator's number, from 0.
    pub number: usize,
    /// The number of generators.
    pub of: usize,
}

impl GeneratorShare {
    /// Returns its share of a limit for all generators together.
    pub fn share(self, bound: usize) -> usize {
        bound / self.of + usize::from(self.number < bound % self.of)
    }
}

/// Which connections requests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionMode {
    /// HTTP/1.1, a new one for each request.
    New,
    /// HTTP/1.1, kept alive; one more is opened if all are busy and the generator is not late.
    KeepAlive,
    /// HTTP/2 (over plain TCP with prior knowledge, RFC 9113, section 3.3), with several requests
    /// at a time on each connection.
    Http2 {
        /// Requests in flight on one connection, at most.
        streams: usize,
    },
}

/// An invalid plan.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{what} {why}")]
#[diagnostic(
    code(loadtests::plan),
    help("the documentation of `loadtests::open::LoadPlan` explains every field")
)]
pub struct PlanError {
    /// The field.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

impl PlanError {
    pub(super) fn new(what: impl Into<String>, why: impl Into<String>) -> PlanError {
        PlanError {
            what: what.into(),
            why: why.into(),
        }
    }
}

impl LoadPlan {
    /// A plan that sends `journeys` to `target` on connections that are kept alive, with one
    /// worker, a timeout of five seconds, and ten seconds to drain. The limit of requests in flight
    /// is the number that is due within one timeout, at most 10,000.
    pub fn of(
        target: ProbeTarget,
        stages: Vec<RateStage>,
        journeys: Vec<WrittenJourney>,
    ) -> LoadPlan {
        let timeout = Duration::from_secs(5);
        let peak = stages.iter().map(|stage| stage.from.max(stage.to));
        let unanswered = peak.fold(0.0, f64::max) * timeout.as_secs_f64();
        LoadPlan {
            target,
            connections: ConnectionMode::KeepAlive,
            stages,
            journeys,
            users: UserVariables::default(),
            timeout,
            max_in_flight: (unanswered.ceil() as usize + 16).min(10_000),
            drain: Duration::from_secs(10),
            workers: 1,
            part: GeneratorShare { number: 0, of: 1 },
            headers: IdentityHeaders::default(),
        }
    }

    /// Returns the most open connections.
    pub(super) fn connections_at_most(&self) -> usize {
        match self.connections {
            ConnectionMode::New | ConnectionMode::KeepAlive => self.max_in_flight,
            // The last one of each worker may have free streams.
            ConnectionMode::Http2 { streams } => {
                self.max_in_flight.div_ceil(streams.max(1)) + self.workers
            }
        }
    }

    /// Validates everything but the stages and journeys.
    pub(super) fn check(&self) -> Result<(), PlanError> {
        let wrong = |what: &str, why: &str| Err(PlanError::new(what, why));
        if self.timeout.is_zero() {
            return wrong("timeout", "is 0: nothing could ever be answered");
        }
        if self.workers == 0 {
            return wrong("workers", "is 0: nothing could ever be sent");
        }
        if self.part.number >= self.part.of {
            return wrong("part", "is beyond the number of generators");
        }
        if self.max_in_flight < self.workers {
            return wrong("max_in_flight", "is less than the number of workers");
        }
        if self.connections == (ConnectionMode::Http2 { streams: 0 }) {
            return wrong("streams", "is 0: nothing could ever be sent");
        }
        Ok(())
    }
}
