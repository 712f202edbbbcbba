//! How a threshold fared.

use std::fmt;

use harness::run::event::Threshold as Told;
use prober::bound::error_rate_at_most;
use serde::{Deserialize, Serialize};

use super::Threshold;
use super::expression::Statistic;
use super::metric::{Kind, Metric};

/// How a threshold fared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// The threshold.
    #[serde(flatten)]
    pub threshold: Threshold,
    /// How many requests it was judged by.
    pub requests: u64,
    /// What was compared with the limit, in its unit.
    pub seen: Option<f64>,
    /// Whether it held.
    pub outcome: Outcome,
}

/// Whether a threshold held. Only [`Outcome::Held`] is a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It held.
    Held,
    /// It did not.
    Failed,
    /// There was nothing to judge: that proves nothing.
    NoSamples,
    /// The run does not tell: iterations of a closed model, or the times of expected answers
    /// where others are among them.
    NotMeasured,
}

impl Verdict {
    /// Whether it held.
    pub fn holds(&self) -> bool {
        self.outcome == Outcome::Held
    }

    /// As a report tells it, of the load that it judges.
    pub fn told(&self, of: &str) -> Told {
        Told {
            of: of.to_owned(),
            threshold: self.threshold.to_string(),
            seen: match (self.outcome, self.seen) {
                (Outcome::NotMeasured, _) => "not measured in this run".to_owned(),
                (_, None) => "no samples".to_owned(),
                (_, Some(value)) => self.seen_in_words(value),
            },
            holds: self.holds(),
        }
    }

    fn seen_in_words(&self, value: f64) -> String {
        let Threshold {
            metric, expression, ..
        } = &self.threshold;
        match (metric.kind(), expression.statistic) {
            (Kind::Trend, _) => format!("{value:.3} ms"),
            (Kind::Counter, Statistic::Rate) => format!("{value:.3} a second"),
            (Kind::Counter, _) => format!("{value}"),
            // None seen is not none.
            (Kind::Rate, _) if value == 0.0 && *metric != Metric::Checks => {
                let most = error_rate_at_most(0, self.requests).unwrap_or(1.0) * 100.0;
                let of = self.requests;
                format!("none of {of}, at most {most:.3} % with 95 % confidence")
            }
            (Kind::Rate, _) => format!("{:.3} % of {}", value * 100.0, self.requests),
        }
    }
}

/// In one line: `holds   http_req_duration: p(95)<500  41.307 ms`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.told("").fmt(f)
    }
}
