//! A comparison: each endpoint's metrics, their values, and the verdicts.

use base::exit::ExitCode;
use serde::{Deserialize, Serialize};

use super::ComparisonVerdict;
use super::metric::ComparedMetric;

/// Version B (or a run) compared with version A (or a baseline).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// The compared runs: `7 pairs`, `run 01K.. against 5 stored runs`.
    pub of: String,
    /// The reasons why nothing can be compared. There are no rows then.
    pub obstacles: Vec<String>,
    /// By endpoint, then metric.
    pub rows: Vec<Row>,
}

/// One metric of one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// The endpoint's name.
    pub endpoint: String,
    /// The metric.
    pub metric: ComparedMetric,
    /// The verdict.
    pub verdict: ComparisonVerdict,
    /// The reason, with numbers.
    pub reason: String,
    /// The values; none if it is not comparable.
    pub numbers: Option<Numbers>,
}

/// The values of a row. Changes are on the metric's scale: ln(B / A), for the error share B - A.
/// [`ComparedMetric::human_change`] formats them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Numbers {
    /// The mean of A's runs: geometric for times (microseconds) and throughput (answers a second),
    /// arithmetic for the error share (0 to 1).
    pub a: f64,
    /// The mean of B's runs.
    pub b: f64,
    /// The change from A to B.
    pub change: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
    /// The interval's confidence, 0 to 1: higher with more endpoints.
    pub confidence: f64,
    /// The limit that a relevant change exceeds.
    pub floor: f64,
    /// The smallest change that is detected in 19 of 20 cases, with this noise and as many runs.
    pub smallest_visible: f64,
}

impl Comparison {
    /// Returns the verdict on all rows.
    pub fn verdict(&self) -> ComparisonVerdict {
        ComparisonVerdict::of(&self.obstacles, self.rows.iter().map(|row| row.verdict))
    }

    /// Returns the exit code of the command.
    pub fn exit_code(&self) -> ExitCode {
        self.verdict().exit_code()
    }
}
