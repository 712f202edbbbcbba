//! A comparison: each endpoint's metrics, what was seen, and what it comes to.

use harness::exit::ExitCode;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::metric::Metric;

/// Version B (or a run) held against version A (or a baseline).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// Of what: `7 pairs`, `run 01K.. against 5 stored runs`.
    pub of: String,
    /// Why nothing can be compared; then there are no rows.
    pub obstacles: Vec<String>,
    /// By endpoint, then metric.
    pub rows: Vec<Row>,
}

/// One metric of one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// The endpoint's name.
    pub endpoint: String,
    /// What of it.
    pub metric: Metric,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why, with numbers.
    pub reason: String,
    /// What was seen; nothing where it is not comparable.
    pub numbers: Option<Numbers>,
}

/// What was seen. Changes are on the metric's scale: ln(B / A), of the error share B - A.
/// [`Metric::human_change`] words them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Numbers {
    /// The mean of A's runs: of times in microseconds and of the throughput in answers a
    /// second the geometric one, of the error share (0 to 1) the plain one.
    pub a: f64,
    /// The same of B.
    pub b: f64,
    /// From A to B.
    pub change: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
    /// The interval's own confidence, 0 to 1: higher the more endpoints there are.
    pub confidence: f64,
    /// What a change must exceed to matter.
    pub floor: f64,
    /// The smallest change that is called in 19 of 20 cases, with this noise and as many runs.
    pub smallest_visible: f64,
}

impl Comparison {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        Verdict::of(&self.obstacles, self.rows.iter().map(|row| row.verdict))
    }

    /// How a command ends that compared this.
    pub fn exit_code(&self) -> ExitCode {
        self.verdict().exit_code()
    }
}
