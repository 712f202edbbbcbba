//! Writes the stream of a run from its raw log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use environments::config::load::{LoadStage, Traffic};
use jiff::Timestamp;
use tokio::task::yield_now;

use super::error::{OutputError, StreamError};
use super::request::{
    CheckSample, Iteration, Protocol, RequestEnd, RequestFailure, RequestSample, Timings,
};
use super::stream::JsonStream;
use crate::raw_log::{RawLogReader, RawOutcome, RawRecord};
use crate::threshold::Threshold;

/// Other tasks may run after this many records.
const YIELD_EVERY: usize = 1024;

/// The longest time, in seconds, for which users are written: a week.
const LONGEST_SECONDS: usize = 7 * 24 * 3600;

/// The name of the check that each request counts as.
const GOOD: &str = "a good answer";

/// A stream that is written from a raw log after the run. If it is dropped, it leaves no file.
pub struct StreamFromLog<'a> {
    path: PathBuf,
    stream: JsonStream,
    /// The profile's name.
    scenario: &'a str,
    traffic: &'a Traffic,
    /// The users at each second.
    users: Vec<u64>,
    /// The most users that are possible.
    most: u64,
}

impl<'a> StreamFromLog<'a> {
    /// Creates the file that will be at `path`. Call this before the run: a file that cannot be
    /// written is then reported early.
    ///
    /// # Errors
    /// As [`JsonStream::create`].
    pub fn begin(
        path: &Path,
        scenario: &'a str,
        traffic: &'a Traffic,
        thresholds: &[Threshold],
    ) -> Result<StreamFromLog<'a>, OutputError> {
        Ok(StreamFromLog {
            path: path.to_owned(),
            stream: JsonStream::create(path, thresholds)?,
            scenario,
            traffic,
            users: Vec::new(),
            most: 0,
        })
    }

    /// Writes the complete log, in constant memory.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn write(mut self, log: &Path) -> Result<(), StreamError> {
        self.read_ahead(log).await?;
        let mut reader = RawLogReader::open(log)?;
        let (names, begun) = (reader.names().to_vec(), reader.begun());
        let mut second = 0;
        for (number, record) in reader.by_ref().enumerate() {
            let record = record?;
            let ended = ended(&record);
            while second as u128 * 1_000_000 < ended.as_micros() && second < self.users.len() {
                let at = after(begun, Duration::from_secs(second as u64));
                self.stream.users(at, self.users[second], self.most)?;
                second += 1;
            }
            let name = &names[usize::from(record.name)];
            self.record(&record, name, after(begun, ended))?;
            if number % YIELD_EVERY == 0 {
                yield_now().await;
            }
        }
        Ok(self.stream.finish()?)
    }

    /// Checks that the log is complete, and counts the users at each second.
    async fn read_ahead(&mut self, log: &Path) -> Result<(), StreamError> {
        let mut reader = RawLogReader::open(log)?;
        let mut counts = InFlight::default();
        for (number, record) in reader.by_ref().enumerate() {
            counts.add(&record?);
            if number % YIELD_EVERY == 0 {
                yield_now().await;
            }
        }
        if let Some(missing @ 1..) = reader.missing() {
            let path = self.path.clone();
            return Err(StreamError::Lacks { path, missing });
        }
        let in_flight = counts.each_second();
        (self.users, self.most) = match self.traffic {
            Traffic::Open { max_in_flight, .. } => (in_flight, u64::from(*max_in_flight)),
            Traffic::Closed { stages } => {
                let seconds = 0..in_flight.len() as u64;
                let most = stages.iter().map(|stage| stage.to).max();
                let users = seconds.map(|at| planned(stages, Duration::from_secs(at)));
                (users.collect(), u64::from(most.unwrap_or_default()))
            }
        };
        Ok(())
    }

    fn record(
        &mut self,
        record: &RawRecord,
        name: &str,
        ended: Timestamp,
    ) -> Result<(), OutputError> {
        let scenario = self.scenario;
        if record.outcome == RawOutcome::Dropped {
            return self.stream.dropped(scenario, ended, 1);
        }
        let (lag, took) = (micros(record.lag), micros(record.took));
        self.stream.request(&RequestSample {
            endpoint: name,
            method: name.split(' ').next().unwrap_or_default(),
            scenario,
            ended,
            timings: Timings {
                blocked: lag,
                waiting: took,
                ..Timings::default()
            },
            ending: ending(record.outcome),
        })?;
        self.stream.check(&CheckSample {
            name: GOOD,
            scenario,
            at: ended,
            passed: matches!(record.outcome, RawOutcome::Status { good: true, .. }),
        })?;
        let received = u64::from(record.received);
        self.stream.data(scenario, ended, None, received)?;
        match self.traffic {
            Traffic::Open { .. } if !record.follows => self.stream.iteration(&Iteration {
                scenario,
                ended,
                lasted: lag + took,
            }),
            _ => Ok(()),
        }
    }
}

/// The requests in flight at each whole second, as the change from the one before.
#[derive(Default)]
struct InFlight(Vec<i64>);

impl InFlight {
    fn add(&mut self, record: &RawRecord) {
        let started = Duration::from_micros(record.intended) + micros(record.lag);
        // The first whole second in which it is in flight, and the first in which it no longer is.
        let (from, until) = (next_second(started), next_second(ended(record)));
        if self.0.len() <= until {
            self.0.resize(until + 1, 0);
        }
        if record.outcome != RawOutcome::Dropped {
            self.0[from] += 1;
            self.0[until] -= 1;
        }
    }

    fn each_second(self) -> Vec<u64> {
        let changes = self.0.into_iter();
        let counts = changes.scan(0, |in_flight, change| {
            *in_flight += change;
            Some(u64::try_from(*in_flight).unwrap_or_default())
        });
        counts.collect()
    }
}

/// Returns the users of a closed profile at this time.
fn planned(stages: &[LoadStage], at: Duration) -> u64 {
    let (mut begins, mut from) = (Duration::ZERO, 0.0);
    for stage in stages {
        let to = f64::from(stage.to);
        if at - begins < stage.lasts {
            let share = (at - begins).div_duration_f64(stage.lasts);
            return (from + (to - from) * share).round() as u64;
        }
        (begins, from) = (begins + stage.lasts, to);
    }
    0
}

/// Rounds up to seconds.
fn next_second(time: Duration) -> usize {
    let seconds = time.as_micros().div_ceil(1_000_000);
    seconds.min(LONGEST_SECONDS as u128) as usize
}

fn ended(record: &RawRecord) -> Duration {
    Duration::from_micros(record.intended) + micros(record.lag) + micros(record.took)
}

fn micros(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}

fn after(begun: Timestamp, time: Duration) -> Timestamp {
    begun.saturating_add(time).unwrap_or(Timestamp::MAX)
}

/// Both engines use HTTP/1.1 in `load run`.
fn ending(outcome: RawOutcome) -> RequestEnd<'static> {
    let failure = match outcome {
        RawOutcome::Status { status, .. } => {
            return RequestEnd::Answered {
                status,
                protocol: Protocol::Http11,
                tls: None,
            };
        }
        RawOutcome::Refused => RequestFailure::ConnectionRefused,
        RawOutcome::Reset => RequestFailure::Reset,
        RawOutcome::TimedOut => RequestFailure::Timeout,
        RawOutcome::Unreachable => RequestFailure::Other("no route to the server"),
        RawOutcome::Tls => RequestFailure::Other("the TLS handshake failed"),
        RawOutcome::Protocol => RequestFailure::Other("the response is not HTTP"),
        RawOutcome::Unanswered => RequestFailure::Other("in flight when the run ended"),
        RawOutcome::Dropped => RequestFailure::Other("not sent"),
    };
    RequestEnd::Failed(failure)
}

#[cfg(test)]
mod tests;
