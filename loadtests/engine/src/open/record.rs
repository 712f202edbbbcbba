//! What a worker counts.

use std::mem;
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::HeaderMap;
use prober::{Outcome, micros};
use tokio::time::Instant;

use super::requests::Requests;
use crate::raw_log::{self, Sink};
use crate::result::{CHECK, Counted, count, growing};
use crate::versions::Versions;

/// How a request ended that was set about.
pub struct Ending {
    /// The status, where there was one.
    pub status: Option<u16>,
    /// Of the body, in bytes.
    pub received: u64,
    /// Why it counts as failed, where it does.
    pub failure: Option<Failure>,
}

/// Why a request counts as failed.
pub enum Failure {
    /// No whole answer, or one of another status than is good.
    Outcome(Outcome),
    /// A good status, and a body that is not as it must be.
    Check,
    /// In flight when the run had no more time.
    Unanswered,
}

impl Ending {
    pub fn failed(failure: Failure) -> Ending {
        Ending {
            status: None,
            received: 0,
            failure: Some(failure),
        }
    }
}

/// An arrival: which, of what, and when it is due.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Of all arrivals, from 0.
    pub number: u64,
    /// Which of the requests.
    pub asks: usize,
    /// After the begin.
    pub after: Duration,
    /// The same, as a time.
    pub due: Instant,
}

/// What was counted since the last time it was taken.
pub struct Counts {
    /// By their name's number.
    pub endpoints: Vec<Counted>,
    /// Of all arrivals, those that were dropped too.
    pub lag: Histogram<u32>,
    /// Of those dropped, the ones for which the system gave no port or file.
    pub without_port: u64,
    /// Which answered.
    pub versions: Versions,
}

/// Counts what becomes of arrivals.
pub struct Recorder {
    counts: Counts,
    block: Duration,
    log: Option<Sink>,
}

impl Recorder {
    pub fn new(block: Duration, log: Option<Sink>) -> Recorder {
        Recorder {
            counts: Counts::default(),
            block,
            log,
        }
    }

    /// What was counted since the last time.
    pub fn take(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    /// An answer has begun.
    pub fn answered(&mut self, headers: &HeaderMap) {
        self.counts.versions.note(headers);
    }

    /// One that was due and not sent.
    pub fn dropped(&mut self, requests: &Requests, arrival: Arrival) {
        let name = requests.ready(arrival.asks).name;
        let lag = arrival.due.elapsed();
        count(&mut self.counts.lag, lag);
        let block = self.block_of(arrival);
        self.counts.of(name).dropped(block);
        self.log(
            arrival,
            name,
            (lag, Duration::ZERO),
            0,
            raw_log::Outcome::Dropped,
        );
    }

    /// One that was set about, and for which there was no port or file.
    pub fn without_port(&mut self, requests: &Requests, arrival: Arrival) {
        self.counts.without_port += 1;
        self.dropped(requests, arrival);
    }

    /// One that was `sent`, and has ended now.
    pub fn ended(&mut self, requests: &Requests, arrival: Arrival, sent: Instant, ending: Ending) {
        let now = Instant::now();
        let ready = requests.ready(arrival.asks);
        let (lag, took) = (sent - arrival.due, now - sent);
        count(&mut self.counts.lag, lag);
        let block = self.block_of(arrival);
        let counted = self.counts.of(ready.name);
        let (times, failed) = ((now - arrival.due, took), ending.failure.is_some());
        counted.ended(block, times, ending.received, failed);
        let endpoint = &mut counted.endpoint;
        if let Some(status) = ending.status {
            *endpoint.statuses.entry(status).or_default() += 1;
        }
        if let Some(failure) = &ending.failure {
            let check = ready.template.check.as_ref();
            let why = match failure {
                Failure::Outcome(outcome) => outcome.to_string(),
                Failure::Unanswered => "not answered before the end".to_owned(),
                Failure::Check => {
                    format!("{CHECK}{}", check.map_or("", |check| &check.claim))
                }
            };
            endpoint.failed(&why, 1);
        }
        let outcome = logged(&ending);
        self.log(arrival, ready.name, (lag, took), ending.received, outcome);
    }

    fn block_of(&self, arrival: Arrival) -> u32 {
        let block = arrival.after.as_nanos() / self.block.as_nanos();
        u32::try_from(block).expect("a run has fewer blocks than there are numbers")
    }

    fn log(
        &mut self,
        arrival: Arrival,
        name: u16,
        (lag, took): (Duration, Duration),
        received: u64,
        outcome: raw_log::Outcome,
    ) {
        if let Some(log) = &mut self.log {
            log.put(raw_log::Record {
                intended: micros(arrival.after),
                lag: short(micros(lag)),
                took: short(micros(took)),
                received: short(received),
                name,
                outcome,
            });
        }
    }
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            endpoints: Vec::new(),
            lag: growing(),
            without_port: 0,
            versions: Versions::default(),
        }
    }
}

impl Counts {
    fn of(&mut self, name: u16) -> &mut Counted {
        let at = usize::from(name);
        if self.endpoints.len() <= at {
            self.endpoints.resize_with(at + 1, Counted::default);
        }
        &mut self.endpoints[at]
    }
}

fn logged(ending: &Ending) -> raw_log::Outcome {
    match (&ending.failure, ending.status) {
        (Some(Failure::Outcome(outcome)), None) => match outcome {
            Outcome::Refused => raw_log::Outcome::Refused,
            Outcome::Reset => raw_log::Outcome::Reset,
            Outcome::TimedOut => raw_log::Outcome::TimedOut,
            Outcome::Unreachable(_) => raw_log::Outcome::Unreachable,
            Outcome::Tls(_) => raw_log::Outcome::Tls,
            Outcome::Protocol(_) => raw_log::Outcome::Protocol,
            Outcome::Dropped => raw_log::Outcome::Dropped,
            Outcome::Status(status) | Outcome::Problem(status, _) => raw_log::Outcome::Status {
                status: *status,
                good: false,
            },
        },
        (failure, Some(status)) => raw_log::Outcome::Status {
            status,
            good: failure.is_none(),
        },
        (_, None) => raw_log::Outcome::Unanswered,
    }
}

fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
