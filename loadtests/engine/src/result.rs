//! The result of a load run, in the same form for every engine.
//!
//! Counts and distributions are stored for each *block*, a fixed span of time. Any sum of blocks is
//! exact: a run, a run without its warm-up, a resampled run.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod distribution;
mod endpoint_counts;
mod file;
mod merge;

use crate::names::OTHER;
pub use distribution::{Distribution, count, growing};
pub use endpoint_counts::{EndedRequest, EndpointCounts};
pub use file::{ReadError, Schema, WriteError};

/// The version of the form. A file with another version is refused.
pub const SCHEMA: u32 = 1;

/// Longer runs have longer blocks: their memory and their results do not grow.
const BLOCKS_AT_MOST: u64 = 120;

/// Returns the length of a block in a run of this length, in whole seconds.
pub fn block_of(takes: Duration) -> Duration {
    let seconds = takes.as_secs_f64().ceil() as u64;
    Duration::from_secs(seconds.div_ceil(BLOCKS_AT_MOST).max(1))
}

/// The most reasons of failures; the rest is counted as [`OTHER`]. A reason that contains the
/// time of day (an expired certificate) would be a new one each time.
const REASONS_AT_MOST: usize = 100;

/// The prefix of failures by a wrong answer. The claim that does not hold follows.
pub const CHECK: &str = "check: ";

/// The result of a load run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LoadResult {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The run's id.
    pub run: String,
    /// What generated the load.
    pub engine: EngineKind,
    /// What results must share to be compared.
    pub fingerprint: Fingerprint,
    /// The first arrival's intended time.
    #[cfg_attr(feature = "schema", schemars(with = "String", extend("format" = "date-time")))]
    pub begun: Timestamp,
    /// The length of a block, in milliseconds.
    pub block_millis: u64,
    /// How it ended.
    pub ended: Ended,
    /// Measurements of the load generator itself.
    pub generator: Generator,
    /// By name, such as `GET /quotes`.
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// What generated the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Arrivals at a given rate, which does not depend on the server.
    Open,
    /// Users who wait for their answers (Goose).
    Closed,
}

/// What results must have in common to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fingerprint {
    /// The target's name.
    pub target: String,
    /// The profile's name.
    pub profile: String,
    /// The profile's content in a canonical form: an edited profile is another one.
    pub plan: String,
    /// The versions of each service that answered.
    pub versions: BTreeMap<String, String>,
    /// The generator's machine: processor, cores, memory.
    pub machine: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// As planned.
    Whole,
    /// By a signal. Requests in flight had time to drain.
    Interrupted,
    /// By a threshold.
    Aborted {
        /// The threshold, as it was written.
        threshold: String,
    },
}

/// Measurements of the load generator itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Generator {
    /// Processor time over wall time: 1.0 is one core.
    pub cores_used: f64,
    /// How many cores it could use.
    pub cores: u32,
    /// From an arrival's intended time to its start, of all endpoints.
    pub lag: Distribution,
    /// Why the generator was the bottleneck, if so. The result then does not describe the target.
    pub bottleneck: Option<String>,
}

/// One endpoint's answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Endpoint {
    /// The blocks that have arrivals, by their number from the run's start.
    pub blocks: BTreeMap<u32, Block>,
    /// From a request's start to the end of its answer, of the whole run.
    pub service_time: Distribution,
    /// The number of answers with each status.
    pub statuses: BTreeMap<u16, u64>,
    /// The number of failures by reason: `connection refused`, `status 500`,
    /// `check: a price that is a number`.
    pub failures: BTreeMap<String, u64>,
}

/// What was due at one endpoint within one block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Block {
    /// Requests that were sent and have ended.
    pub requests: u64,
    /// Requests among them that were the first of an arrival: iterations in k6. 0 in the closed
    /// model, and in results that an earlier version wrote.
    #[serde(default)]
    pub arrivals: u64,
    /// Requests among them without a good answer.
    pub failed: u64,
    /// Arrivals that were not sent, as too many were in flight.
    pub dropped: u64,
    /// Bytes of the answers' bodies.
    pub received: u64,
    /// From the intended time to the end of the answer, with failures.
    pub latency: Distribution,
}

impl Fingerprint {
    /// Returns the same with the versions that answered, by service, if the target reports any.
    pub fn answered_in(self, versions: BTreeMap<String, String>) -> Fingerprint {
        match versions.is_empty() {
            true => self,
            false => Fingerprint { versions, ..self },
        }
    }
}

impl Endpoint {
    /// Returns the sum of all blocks.
    pub fn whole(&self) -> Block {
        self.blocks.values().sum()
    }

    /// Returns how many answers had a good status but a wrong body.
    pub fn wrong_answers(&self) -> u64 {
        let failures = self.failures.iter();
        let wrong = failures.filter(|(reason, _)| reason.starts_with(CHECK));
        wrong.map(|(_, count)| count).sum()
    }

    /// Adds another endpoint's counts, exactly.
    pub fn add(&mut self, other: &Endpoint) {
        for (number, block) in &other.blocks {
            self.blocks.entry(*number).or_default().add(block);
        }
        self.service_time.add(&other.service_time);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (reason, count) in &other.failures {
            self.failed(reason, *count);
        }
    }

    /// Counts failures for one reason.
    pub fn failed(&mut self, reason: &str, times: u64) {
        if let Some(count) = self.failures.get_mut(reason) {
            *count += times;
            return;
        }
        let fits = self.failures.len() < REASONS_AT_MOST;
        let reason = if fits { reason } else { OTHER };
        *self.failures.entry(reason.to_owned()).or_default() += times;
    }
}

impl Block {
    /// Adds another block's counts.
    pub fn add(&mut self, other: &Block) {
        *self = [&*self, other].into_iter().sum();
    }

    /// Returns the share of failed requests, 0 to 1; none without requests.
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
            sum.arrivals += block.arrivals;
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
    /// Returns the sum of all endpoints.
    pub fn whole(&self) -> Block {
        let endpoints = self.endpoints.values();
        endpoints
            .flat_map(|endpoint| endpoint.blocks.values())
            .sum()
    }

    /// Returns the number of blocks from the run's start to the last one with an arrival.
    pub fn blocks(&self) -> u32 {
        let endpoints = self.endpoints.values();
        let numbers = endpoints.flat_map(|endpoint| endpoint.blocks.keys());
        numbers.max().map_or(0, |last| last.saturating_add(1))
    }

    /// Returns the time from the first block to the last, in seconds.
    pub fn seconds(&self) -> f64 {
        (u64::from(self.blocks()) * self.block_millis) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reasons_beyond_the_limit_are_counted_together() {
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
        #[test]
        fn a_number_is_read_back_exactly(cores_used in 0.0f64..64.0) {
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
