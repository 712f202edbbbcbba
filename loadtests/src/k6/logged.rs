//! The stream of a run that has ended, made of its raw log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::config::load::{Stage, Traffic};
use jiff::Timestamp;
use tokio::task::yield_now;

use super::error::{NotStreamed, OutputError};
use super::request::{Check, Ending, Failure, Iteration, Protocol, Sample, Timings};
use super::stream::JsonStream;
use crate::raw_log::{Outcome, Reader, Record};
use crate::threshold::Threshold;

/// So many records are written until others have their turn.
const TURN: usize = 1024;

/// For so many seconds is it told how many users there are: a week.
const TOLD_FOR: usize = 7 * 24 * 3600;

/// The check that each request is.
const GOOD: &str = "a good answer";

/// A stream that is made of a raw log once its run has ended. Dropped before, it leaves no
/// file.
pub struct Logged<'a> {
    path: PathBuf,
    stream: JsonStream,
    /// The profile's name.
    scenario: &'a str,
    traffic: &'a Traffic,
    /// By the second, and what they can be at most.
    users: Vec<u64>,
    most: u64,
}

impl<'a> Logged<'a> {
    /// Begins the file that will be at `path`, before its run does: that it cannot be written is
    /// to be known in time.
    ///
    /// # Errors
    /// As [`JsonStream::create`].
    pub fn begin(
        path: &Path,
        scenario: &'a str,
        traffic: &'a Traffic,
        thresholds: &[Threshold],
    ) -> Result<Logged<'a>, OutputError> {
        Ok(Logged {
            path: path.to_owned(),
            stream: JsonStream::create(path, thresholds)?,
            scenario,
            traffic,
            users: Vec::new(),
            most: 0,
        })
    }

    /// Writes all of the log. Memory does not grow with it.
    ///
    /// # Errors
    /// [`NotStreamed`].
    pub async fn write(mut self, log: &Path) -> Result<(), NotStreamed> {
        self.look_through(log).await?;
        let mut reader = Reader::open(log)?;
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
            if number % TURN == 0 {
                yield_now().await;
            }
        }
        Ok(self.stream.finish()?)
    }

    /// That the log is whole, and how many users there are each second.
    async fn look_through(&mut self, log: &Path) -> Result<(), NotStreamed> {
        let mut reader = Reader::open(log)?;
        let mut flying = Flying::default();
        for (number, record) in reader.by_ref().enumerate() {
            flying.add(&record?);
            if number % TURN == 0 {
                yield_now().await;
            }
        }
        if let Some(missing @ 1..) = reader.missing() {
            let path = self.path.clone();
            return Err(NotStreamed::Lacks { path, missing });
        }
        let in_flight = flying.each_second();
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

    fn record(&mut self, record: &Record, name: &str, ended: Timestamp) -> Result<(), OutputError> {
        let scenario = self.scenario;
        if record.outcome == Outcome::Dropped {
            return self.stream.dropped(scenario, ended, 1);
        }
        let (lag, took) = (micros(record.lag), micros(record.took));
        self.stream.request(&Sample {
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
        self.stream.check(&Check {
            name: GOOD,
            scenario,
            at: ended,
            passed: matches!(record.outcome, Outcome::Status { good: true, .. }),
        })?;
        let received = u64::from(record.received);
        self.stream.data(scenario, ended, None, received)?;
        match self.traffic {
            Traffic::Closed { .. } => Ok(()),
            Traffic::Open { .. } => self.stream.iteration(&Iteration {
                scenario,
                ended,
                lasted: lag + took,
            }),
        }
    }
}

/// How many requests are in flight at each whole second, by what changes from the one before.
#[derive(Default)]
struct Flying(Vec<i64>);

impl Flying {
    fn add(&mut self, record: &Record) {
        let set_about = Duration::from_micros(record.intended) + micros(record.lag);
        // The first whole second that it is in flight at, and the first that it no longer is.
        let (from, until) = (up(set_about), up(ended(record)));
        if self.0.len() <= until {
            self.0.resize(until + 1, 0);
        }
        if record.outcome != Outcome::Dropped {
            self.0[from] += 1;
            self.0[until] -= 1;
        }
    }

    fn each_second(self) -> Vec<u64> {
        let changes = self.0.into_iter();
        let counts = changes.scan(0, |flying, change| {
            *flying += change;
            Some(u64::try_from(*flying).unwrap_or_default())
        });
        counts.collect()
    }
}

/// How many users a closed profile has then.
fn planned(stages: &[Stage], at: Duration) -> u64 {
    let (mut begins, mut from) = (Duration::ZERO, 0.0);
    for stage in stages {
        let to = f64::from(stage.to);
        let into = (at - begins).as_secs_f64();
        if at - begins < stage.lasts {
            let share = into / stage.lasts.as_secs_f64();
            return (from + (to - from) * share).round() as u64;
        }
        (begins, from) = (begins + stage.lasts, to);
    }
    0
}

fn up(time: Duration) -> usize {
    let seconds = time.as_micros().div_ceil(1_000_000);
    usize::try_from(seconds).unwrap_or(TOLD_FOR).min(TOLD_FOR)
}

fn ended(record: &Record) -> Duration {
    Duration::from_micros(record.intended) + micros(record.lag) + micros(record.took)
}

fn micros(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}

fn after(begun: Timestamp, time: Duration) -> Timestamp {
    begun.saturating_add(time).unwrap_or(Timestamp::MAX)
}

/// Both engines ask by HTTP/1.1, as `load run` has them do.
fn ending(outcome: Outcome) -> Ending<'static> {
    let failure = match outcome {
        Outcome::Status { status, .. } => {
            return Ending::Answered {
                status,
                protocol: Protocol::Http11,
                tls: None,
            };
        }
        Outcome::Refused => Failure::ConnectionRefused,
        Outcome::Reset => Failure::Reset,
        Outcome::TimedOut => Failure::Timeout,
        Outcome::Unreachable => Failure::Other("no way there"),
        Outcome::Tls => Failure::Other("TLS was not agreed upon"),
        Outcome::Protocol => Failure::Other("what came is not HTTP"),
        Outcome::Unanswered => Failure::Other("in flight when the run ended"),
        Outcome::Dropped => Failure::Other("not sent"),
    };
    Ending::Failed(failure)
}

#[cfg(test)]
mod tests;
