//! The result of a threshold.

use std::fmt;

use base::run::event::Threshold as ReportedThreshold;
use prober::error_rate_bound::error_rate_at_most;
use serde::{Deserialize, Serialize};

use super::Threshold;
use super::expression::Statistic;
use super::metric::{Metric, MetricKind};

/// The result of a threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ThresholdResult {
    /// The threshold.
    #[serde(flatten)]
    pub threshold: Threshold,
    /// The number of requests.
    pub requests: u64,
    /// The value that was compared with the limit, in its unit.
    pub seen: Option<f64>,
    /// Whether it held.
    pub outcome: ThresholdOutcome,
}

/// Whether a threshold held. Only [`ThresholdOutcome::Held`] is a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdOutcome {
    /// It held.
    Held,
    /// It did not hold.
    Failed,
    /// There were no samples.
    NoSamples,
    /// The run does not measure it: iterations of a closed model, or the times of expected answers
    /// if there were other answers.
    NotMeasured,
}

impl ThresholdResult {
    /// Returns whether it held.
    pub fn holds(&self) -> bool {
        self.outcome == ThresholdOutcome::Held
    }

    /// Returns the verdict for a report; `of` names the load.
    pub fn report(&self, of: &str) -> ReportedThreshold {
        ReportedThreshold {
            of: of.to_owned(),
            threshold: self.threshold.to_string(),
            seen: match (self.outcome, self.seen) {
                (ThresholdOutcome::NotMeasured, _) => "not measured in this run".to_owned(),
                (_, None) => "no samples".to_owned(),
                (_, Some(value)) => self.format_seen(value),
            },
            holds: self.holds(),
        }
    }

    fn format_seen(&self, value: f64) -> String {
        let Threshold {
            metric, expression, ..
        } = &self.threshold;
        match (metric.kind(), expression.statistic) {
            (MetricKind::Trend, _) => format!("{value:.3} ms"),
            (MetricKind::Counter, Statistic::Rate) => format!("{value:.3} a second"),
            (MetricKind::Counter, _) => format!("{value}"),
            // Without failures there is only an upper bound.
            (MetricKind::Rate, _) if value == 0.0 && *metric != Metric::Checks => {
                let most = error_rate_at_most(0, self.requests).unwrap_or(1.0) * 100.0;
                let requests = self.requests;
                format!("none of {requests}, at most {most:.3} % with 95 % confidence")
            }
            (MetricKind::Rate, _) => format!("{:.3} % of {}", value * 100.0, self.requests),
        }
    }
}

/// On one line: `holds   http_req_duration: p(95)<500  41.307 ms`.
impl fmt::Display for ThresholdResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report("").fmt(f)
    }
}
