//! The traffic during a release, as data for charts.
//!
//! Its size has a limit, however long the release: at most [`BLOCKS_AT_MOST`] blocks of equal
//! length. A request counts in the block in which it was due.

use serde::{Deserialize, Serialize};

/// The most blocks.
pub const BLOCKS_AT_MOST: u64 = 120;

/// The traffic during one release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReleaseTraffic {
    /// The scenario that released.
    pub scenario: String,
    /// The version before.
    pub old: String,
    /// The version that was released.
    pub new: String,
    /// The length of a block, milliseconds.
    pub block_millis: u64,
    /// The phases, in order.
    pub phases: Vec<PhaseTraffic>,
    /// Each lane, from each vantage.
    pub lanes: Vec<LaneTraffic>,
    /// The ready replicas of each colour; empty if they were not seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ColourReplicas>,
    /// The latency of quick requests in all lanes.
    pub latency: LatencyBlocks,
}

/// The replicas of one colour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ColourReplicas {
    /// Its name: `blue`, `green`.
    pub colour: String,
    /// How many were ready at the end of each block; none before the first observation.
    pub ready: Vec<Option<u64>>,
}

/// The traffic of all lanes in one phase. Latencies and gaps are those of quick requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PhaseTraffic {
    /// Its name: `before`, `mixed`.
    pub phase: String,
    /// When it began, milliseconds after the first request was due.
    pub from_millis: u64,
    /// Requests that were sent.
    pub requests: u64,
    /// Requests among them without a good answer.
    pub failed: u64,
    /// The median latency of good answers, microseconds.
    pub p50: Option<u64>,
    /// The 99th percentile.
    pub p99: Option<u64>,
    /// The longest time without a good answer in any lane, microseconds.
    pub longest_gap: u64,
}

/// The requests of one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LaneTraffic {
    /// Where its requests came from: `inside` or `outside`.
    pub from: String,
    /// Its name: `new-connection`, `pooled`, `slow`.
    pub lane: String,
    /// The longest time without a good answer, microseconds.
    pub longest_gap: u64,
    /// When it began, milliseconds after the first request was due.
    pub longest_gap_from_millis: u64,
    /// Answers of the old version in each block, with any status.
    pub old: Vec<u64>,
    /// Answers of the new version.
    pub new: Vec<u64>,
    /// Answers of other versions, or without one.
    pub other: Vec<u64>,
    /// Requests without a good answer.
    pub failed: Vec<u64>,
}

/// The latency of good answers in each block, microseconds; none without any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LatencyBlocks {
    /// The median.
    pub p50: Vec<Option<u64>>,
    /// The 99th percentile.
    pub p99: Vec<Option<u64>>,
}
