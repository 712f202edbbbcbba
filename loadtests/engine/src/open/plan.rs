//! What is asked, how often, and how.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use miette::Diagnostic;
use prober::Target;
use thiserror::Error;

use super::schedule::Stage;

/// Load to be made.
#[derive(Clone)]
pub struct Plan {
    /// Whom to ask. The path of its URL goes before every template's.
    pub target: Target,
    /// By which connections.
    pub connections: Connections,
    /// How much when, one after the other.
    pub stages: Vec<Stage>,
    /// What: each arrival picks one by the weights.
    pub templates: Vec<Template>,
    /// From when a request was due to the last byte of its answer. One that takes longer is a
    /// failure, with the time that it had.
    pub timeout: Duration,
    /// An arrival that is due while so many are in flight is dropped, and counted.
    pub max_in_flight: usize,
    /// What an interrupted run gives those in flight, at most.
    pub drain: Duration,
    /// How many threads make the load, each with its share of the arrivals and of the bound.
    pub workers: usize,
    /// Which of the arrivals are this generator's.
    pub part: Part,
}

/// One of several generators that make a load together, each every so many-eth arrival of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which, from 0.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

impl Part {
    /// The only generator.
    pub const WHOLE: Part = Part { number: 0, of: 1 };

    /// Its share of a bound that is for all of them together.
    pub fn share(self, bound: usize) -> usize {
        bound / self.of + usize::from(self.number < bound % self.of)
    }
}

/// By which connections the load comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// HTTP/1.1, a new one for each request.
    New,
    /// HTTP/1.1, kept alive; one more is made when all are busy and the generator is not behind.
    Kept,
    /// HTTP/2 (over plain TCP with prior knowledge, RFC 9113, section 3.3), so many requests
    /// at once on each.
    Http2 {
        /// Requests in flight on one connection, at most.
        streams: usize,
    },
}

/// A kind of request. Its headers may hold secrets: it is never printed.
#[derive(Clone)]
pub struct Template {
    /// What results are kept by: `GET /quotes/{symbol}`.
    pub name: String,
    /// How often it is picked, beside the others' weights.
    pub weight: u32,
    /// The method.
    pub method: Method,
    /// Paths with their queries: each request picks one.
    pub paths: Vec<String>,
    /// Beside `Host` and `User-Agent`.
    pub headers: HeaderMap,
    /// The body; empty is none.
    pub body: Bytes,
    /// The statuses that count as good; none are all below 400.
    pub good: Vec<u16>,
    /// What a good answer's body must be like.
    pub check: Option<Check>,
}

/// What an answer's body must be like.
#[derive(Clone)]
pub struct Check {
    /// In words: `a price that is a number`.
    pub claim: String,
    /// Whether a body is so.
    pub holds: Arc<Holds>,
}

/// Tells whether a body is as it must be.
pub type Holds = dyn Fn(&[u8]) -> bool + Send + Sync;

/// A plan that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{what} {why}")]
#[diagnostic(
    code(loadtests::plan),
    help("the documentation of `loadtests::open::Plan` explains every field")
)]
pub struct PlanError {
    /// Of the plan: a field.
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

impl Plan {
    /// `templates` asked of `target` on kept connections, by one worker, each with five
    /// seconds, ten seconds to drain, and so many in flight as are due until the first of a
    /// server that answers nothing times out, 10,000 at most.
    pub fn of(target: Target, stages: Vec<Stage>, templates: Vec<Template>) -> Plan {
        let timeout = Duration::from_secs(5);
        let peak = stages.iter().map(|stage| stage.from.max(stage.to));
        let unanswered = peak.fold(0.0, f64::max) * timeout.as_secs_f64();
        Plan {
            target,
            connections: Connections::Kept,
            stages,
            templates,
            timeout,
            max_in_flight: (unanswered.ceil() as usize + 16).min(10_000),
            drain: Duration::from_secs(10),
            workers: 1,
            part: Part::WHOLE,
        }
    }

    /// How many connections there may be at once.
    pub(super) fn connections_at_most(&self) -> usize {
        match self.connections {
            Connections::New | Connections::Kept => self.max_in_flight,
            // Each worker's last one may be used in part.
            Connections::Http2 { streams } => {
                self.max_in_flight.div_ceil(streams.max(1)) + self.workers
            }
        }
    }

    /// What does not hold whatever the stages and templates are.
    pub(super) fn check(&self) -> Result<(), PlanError> {
        let wrong = |what: &str, why: &str| Err(PlanError::new(what, why));
        if self.timeout.is_zero() {
            return wrong("timeout", "is 0: nothing could ever be answered");
        }
        if self.workers == 0 {
            return wrong("workers", "is 0: nobody would ask");
        }
        if self.part.number >= self.part.of {
            return wrong("part", "is beyond the number of generators");
        }
        if self.max_in_flight < self.workers {
            return wrong("max_in_flight", "leaves none to some of the workers");
        }
        match self.connections {
            Connections::Http2 { streams: 0 } => {
                wrong("streams", "is 0: nothing could ever be sent")
            }
            _ => Ok(()),
        }
    }
}

impl Template {
    /// `GET` of one path, which is its name too.
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

    /// Whether this status is a good answer.
    pub fn is_good(&self, status: u16) -> bool {
        match self.good.is_empty() {
            true => status < 400,
            false => self.good.contains(&status),
        }
    }
}
