//! What a load run measured, as data for charts.
//!
//! Its size has a limit, however long the run: at most [`BLOCKS_AT_MOST`] blocks, of the
//! [`CURVES_AT_MOST`] endpoints with the most requests. Times are microseconds, from when a request
//! was due (open) or sent (closed) to the end of its answer, with failures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most blocks of a run; longer runs have longer blocks.
pub const BLOCKS_AT_MOST: u64 = 120;
/// The most endpoints whose values over time are kept.
pub const CURVES_AT_MOST: usize = 24;
/// The most reasons of failures.
pub const FAILURES_AT_MOST: usize = 20;

/// The measurements of one load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoadMeasurement {
    /// The load: `average`, or `steady, A's run 3` if there are several.
    pub of: String,
    /// The side of a comparison that it belongs to: `A` or `B`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<String>,
    /// The versions of each service that answered.
    pub versions: BTreeMap<String, String>,
    /// The length of a block, milliseconds.
    pub block_millis: u64,
    /// The arrivals that the profile asks for in each block; empty if users set the rate.
    pub asked: Vec<f64>,
    /// All endpoints together.
    pub whole: EndpointMeasurement,
    /// Each endpoint, the one with the most requests first.
    pub endpoints: Vec<EndpointMeasurement>,
    /// The most frequent failures, the most frequent first.
    pub failures: Vec<FailureCount>,
    /// The load generator itself.
    pub generator: GeneratorHealth,
    /// The thresholds that a chart can show as lines.
    pub limits: Vec<Limit>,
}

/// The requests of one endpoint, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndpointMeasurement {
    /// Its name, such as `GET /quotes`; empty for all together.
    pub name: String,
    /// Requests that were sent and have ended.
    pub requests: u64,
    /// Requests among them without a good answer.
    pub failed: u64,
    /// Arrivals that were due and not sent.
    pub dropped: u64,
    /// Times at some percentiles; none without requests.
    pub latency: Option<Percentiles>,
    /// Values over time; none beyond [`CURVES_AT_MOST`] endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<BlockValues>,
}

/// Values of each block. All lists are as long as the run has blocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockValues {
    /// Arrivals that were sent; all 0 if users set the rate.
    pub arrivals: Vec<u64>,
    /// Requests that were sent and have ended.
    pub requests: Vec<u64>,
    /// Requests among them without a good answer.
    pub failed: Vec<u64>,
    /// Arrivals that were due and not sent.
    pub dropped: Vec<u64>,
    /// The median, where there were requests.
    pub p50: Vec<Option<u64>>,
    /// The 95th percentile.
    pub p95: Vec<Option<u64>>,
    /// The 99th percentile.
    pub p99: Vec<Option<u64>>,
}

/// Times at some percentiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Percentiles {
    /// The median.
    pub p50: u64,
    /// The 95th percentile.
    pub p95: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// Points of the percentile curve: the percentile (0 to 99.99), and the time. A percentile that
    /// so few requests do not have is left out.
    pub curve: Vec<(f64, u64)>,
}

/// A reason of failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FailureCount {
    /// The endpoint.
    pub endpoint: String,
    /// The reason: `connection refused`, `status 500`, `check: a price`.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// How well the load generator itself worked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GeneratorHealth {
    /// Processor time over wall time: 1.0 is one core.
    pub cores_used: f64,
    /// How many cores it could use.
    pub cores: u32,
    /// How late it started requests; none if it did not start any.
    pub lag: Option<Percentiles>,
    /// Why it was the bottleneck, if so. Then the times are not those of the platform.
    pub bottleneck: Option<String>,
}

/// A threshold that a chart can show as a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limit {
    /// The rule as written: `http_req_duration: p(95)<500`.
    pub threshold: String,
    /// The endpoints that it is about; empty for all together.
    pub endpoints: Vec<String>,
    /// What it limits.
    pub of: Limited,
    /// The limit: microseconds, or a share from 0 to 1.
    pub limit: f64,
    /// Whether the rule holds.
    pub holds: bool,
}

/// What a [`Limit`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Limited {
    /// Times.
    Latency,
    /// The share of requests without a good answer.
    Failures,
}
