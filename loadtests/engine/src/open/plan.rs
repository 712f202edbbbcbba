//! The plan of a load: which requests, how often, and how.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use miette::Diagnostic;
use prober::ProbeTarget;
use thiserror::Error;

use super::schedule::RateStage;

/// The load to generate.
#[derive(Clone)]
pub struct LoadPlan {
    /// Where requests go. The path of its URL is the prefix of every template's.
    pub target: ProbeTarget,
    /// Which connections they use.
    pub connections: ConnectionMode,
    /// The rate over time, stage by stage.
    pub stages: Vec<RateStage>,
    /// The kinds of requests. Each arrival picks one by weight.
    pub templates: Vec<Template>,
    /// From when a request was due to the last byte of its response. A request that takes longer
    /// fails, and counts with this time.
    pub timeout: Duration,
    /// An arrival that is due while this many are in flight is dropped, and counted.
    pub max_in_flight: usize,
    /// How long an interrupted run waits for the requests in flight, at most.
    pub drain: Duration,
    /// The number of threads. Each has its share of the arrivals and of `max_in_flight`.
    pub workers: usize,
    /// This generator's share of the arrivals.
    pub part: GeneratorShare,
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

/// A kind of request. Its headers may hold secrets: it is never printed.
#[derive(Clone)]
pub struct Template {
    /// The name in results, such as `GET /quotes/{symbol}`.
    pub name: String,
    /// How often it is picked, relative to the other weights.
    pub weight: u32,
    /// The method.
    pub method: Method,
    /// Paths with queries. Each request picks one.
    pub paths: Vec<String>,
    /// Headers beside `Host` and `User-Agent`.
    pub headers: HeaderMap,
    /// The body; may be empty.
    pub body: Bytes,
    /// The statuses that count as good; if empty, all below 400.
    pub good: Vec<u16>,
    /// A condition on the body of a good answer.
    pub check: Option<BodyCheck>,
}

/// A condition on the body of an answer.
#[derive(Clone)]
pub struct BodyCheck {
    /// The condition for people: `a price that is a number`.
    pub claim: String,
    /// Returns whether it holds for a body.
    pub holds: Arc<Holds>,
}

/// Returns whether a condition holds for a body.
pub type Holds = dyn Fn(&[u8]) -> bool + Send + Sync;

/// An invalid plan.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{what} {why}")]
#[diagnostic(
    code(loadtests::plan),
    help("the documentation of `loadtests::open::Plan` explains every field")
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
    /// A plan that sends `templates` to `target` on connections that are kept alive, with one
    /// worker, a timeout of five seconds, and ten seconds to drain. The limit of requests in flight
    /// is the number that is due within one timeout, at most 10,000.
    pub fn of(target: ProbeTarget, stages: Vec<RateStage>, templates: Vec<Template>) -> LoadPlan {
        let timeout = Duration::from_secs(5);
        let peak = stages.iter().map(|stage| stage.from.max(stage.to));
        let unanswered = peak.fold(0.0, f64::max) * timeout.as_secs_f64();
        LoadPlan {
            target,
            connections: ConnectionMode::KeepAlive,
            stages,
            templates,
            timeout,
            max_in_flight: (unanswered.ceil() as usize + 16).min(10_000),
            drain: Duration::from_secs(10),
            workers: 1,
            part: GeneratorShare { number: 0, of: 1 },
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

    /// Validates everything but the stages and templates.
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

impl Template {
    /// `GET` of one path, which also is its name.
    pub fn get(path: &str) -> Template {
        Template {
            name: format!("GET {path}"),
            weight: 1,
            method: Method::GET,
            paths: vec![path.to_owned()],
            headers: HeaderMap::new(),
            body: Bytes::new(),
            good: Vec::new(),
            check: None,
        }
    }

    /// Returns whether this status counts as good.
    pub fn is_good(&self, status: u16) -> bool {
        match self.good.is_empty() {
            true => status < 400,
            false => self.good.contains(&status),
        }
    }
}
