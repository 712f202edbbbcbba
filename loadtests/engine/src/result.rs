//! What one load run measured, in the one form that every engine's run is written in.
//!
//! Counts and distributions are kept by *block*, a fixed span of time, so that any sum of
//! blocks (a run, a run without its warm-up, a resampled run) is exact.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod counted;
mod distribution;
mod file;
mod together;

use crate::open::OTHER;
use crate::versions::Versions;
pub use counted::Counted;
pub use distribution::{Distribution, count, growing};
pub use file::Schema;
pub use file::{Unread, Unwritten};

/// The form's number. A file of another one is refused, never guessed at.
pub const SCHEMA: u32 = 1;

/// A run beyond two minutes has longer blocks than a second: its memory and its result do not
/// grow with it.
const BLOCKS_AT_MOST: u64 = 120;

/// How long a block is of a run that takes so long: whole seconds.
pub fn block_of(takes: Duration) -> Duration {
    let seconds = takes.as_secs_f64().ceil() as u64;
    Duration::from_secs(seconds.div_ceil(BLOCKS_AT_MOST).max(1))
}

/// So many reasons of failures are kept apart; the rest goes by [`OTHER`]. Some hold the time
/// of day (a certificate that has expired): each would be another one.
const REASONS_AT_MOST: usize = 100;

/// How the failures begin that are wrong answers; the claim that does not hold follows.
pub const CHECK: &str = "check: ";

/// What one load run measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LoadResult {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The run's id.
    pub run: String,
    /// What it was made by.
    pub engine: Engine,
    /// What results must share to be compared.
    pub fingerprint: Fingerprint,
    /// The first arrival's intended time.
    pub begun: Timestamp,
    /// How long a block is, in milliseconds.
    pub block_millis: u64,
    /// How it ended.
    pub ended: Ended,
    /// How the load generator itself fared.
    pub generator: Generator,
    /// By name: `GET /quotes`.
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// What generated the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Arrivals at a stated rate, whatever the answers do.
    Open,
    /// Users who wait for their answers, by Goose.
    Closed,
}

/// What results must share to be compared: numbers of different things are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fingerprint {
    /// The target's name.
    pub target: String,
    /// The profile's name.
    pub profile: String,
    /// What the profile says, in a canonical form: a profile that was edited is another one.
    pub plan: String,
    /// The version that each service answered in.
    pub versions: BTreeMap<String, String>,
    /// The generator's machine: processor, cores, memory.
    pub machine: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// As planned.
    Whole,
    /// By a signal; what was in flight was given its deadline.
    Interrupted,
    /// By a threshold that says so.
    Aborted {
        /// The threshold, as it was written.
        threshold: String,
    },
}

/// How the load generator itself fared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Generator {
    /// Processor time over wall time: 1.0 is one core.
    pub cores_used: f64,
    /// How many cores it could use.
    pub cores: u32,
    /// From an arrival's intended time to when it was set about, of all endpoints.
    pub lag: Distribution,
    /// Why the generator was the bottleneck, where it was: then the result says nothing of
    /// the target.
    pub bottleneck: Option<String>,
}

/// One endpoint's answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Endpoint {
    /// By their number from the run's begin; one without arrivals is left out.
    pub blocks: BTreeMap<u32, Block>,
    /// From being sent to the end of the answer, of the whole run.
    pub service_time: Distribution,
    /// How often each status was answered.
    pub statuses: BTreeMap<u16, u64>,
    /// What went wrong, and how often: `connection refused`, `status 500`,
    /// `check: a price that is a number`.
    pub failures: BTreeMap<String, u64>,
}

/// What was due at one endpoint within one block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Block {
    /// Sent; each has ended, in an answer or not.
    pub requests: u64,
    /// Of those, the ones without a good answer.
    pub failed: u64,
    /// Due, and not sent: the bound of requests in flight was reached.
    pub dropped: u64,
    /// Bytes of the answers' bodies.
    pub received: u64,
    /// From the intended time to the end of the answer, failures among them.
    pub latency: Distribution,
}

impl Fingerprint {
    /// The same, of a run in which these versions answered. Of a target that says none, they
    /// are what they were.
    pub fn answered_in(self, versions: Versions) -> Fingerprint {
        let versions = versions.by_service();
        match versions.is_empty() {
            true => self,
            false => Fingerprint { versions, ..self },
        }
    }
}

impl Endpoint {
    /// All blocks together.
    pub fn whole(&self) -> Block {
        self.blocks.values().sum()
    }

    /// How many answers came with a good status, and said what is not so.
    pub fn wrong_answers(&self) -> u64 {
        let wrong = self
            .failures
            .iter()
            .filter(|(why, _)| why.starts_with(CHECK));
        wrong.map(|(_, count)| count).sum()
    }

    /// Adds another one's counts: the same as if they had been counted here.
    pub fn add(&mut self, other: &Endpoint) {
        for (number, block) in &other.blocks {
            self.blocks.entry(*number).or_default().add(block);
        }
        self.service_time.add(&other.service_time);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (why, count) in &other.failures {
            self.failed(why, *count);
        }
    }

    /// Counts failures for one reason.
    pub fn failed(&mut self, why: &str, times: u64) {
        if let Some(count) = self.failures.get_mut(why) {
            *count += times;
            return;
        }
        let fits = self.failures.len() < REASONS_AT_MOST;
        let why = if fits { why } else { OTHER };
        *self.failures.entry(why.to_owned()).or_default() += times;
    }
}

impl Block {
    /// Adds another one's counts.
    pub fn add(&mut self, other: &Block) {
        *self = [&*self, other].into_iter().sum();
    }

    /// The share that failed, 0 to 1; none where nothing was sent.
    pub fn error_share(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.failed as f64 / self.requests as f64)
    }
}

impl<'a> Sum<&'a Block> for Block {
    fn sum<I: Iterator<Item = &'a Block>>(blocks: I) -> Block {
        let mut sum = Block::default();
        let mut latency = growing();
        for block in blocks {
            sum.requests += block.requests;
            sum.failed += block.failed;
            sum.dropped += block.dropped;
            sum.received += block.received;
            block.latency.add_to(&mut latency);
        }
        sum.latency = latency.into();
        sum
    }
}

impl LoadResult {
    /// All endpoints together.
    pub fn whole(&self) -> Block {
        let endpoints = self.endpoints.values();
        endpoints.flat_map(|it| it.blocks.values()).sum()
    }

    /// How many blocks there are, from the run's begin to the last one with an arrival.
    pub fn blocks(&self) -> u32 {
        let endpoints = self.endpoints.values();
        let last = endpoints
            .filter_map(|it| it.blocks.keys().next_back())
            .max();
        last.map_or(0, |last| last.saturating_add(1))
    }

    /// From the first block to the last, in seconds.
    pub fn seconds(&self) -> f64 {
        (u64::from(self.blocks()) * self.block_millis) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reasons_beyond_the_cap_are_counted_together() {
        let expired = |at: u64| format!("TLS: the certificate has expired {at} s ago");
        let (mut one, mut other) = (Endpoint::default(), Endpoint::default());
        (0..1000).for_each(|at| one.failed(&expired(at), 1));
        (500..1500).for_each(|at| other.failed(&expired(at), 1));
        assert_eq!(one.failures.len(), REASONS_AT_MOST + 1);
        one.add(&other);
        one.failed(&expired(0), 2);
        assert_eq!(one.failures.len(), REASONS_AT_MOST + 1);
        assert_eq!(one.failures[&expired(0)], 3);
        assert_eq!(one.failures.values().sum::<u64>(), 2002);
    }

    proptest! {
        /// A result that was written is the one that is read, to the last bit.
        #[test]
        fn a_number_is_read_as_it_was_written(cores_used in 0.0f64..64.0) {
            let generator = Generator {
                cores_used,
                cores: 64,
                lag: Distribution::default(),
                bottleneck: None,
            };
            let written = serde_json::to_string(&generator).unwrap();
            let read: Generator = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(read, generator);
        }
    }
}
