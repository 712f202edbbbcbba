//! Errors in thresholds: the mistake, its position, and what is valid.

use miette::Diagnostic;
use thiserror::Error;

use super::metric::{Metric, MetricKind};

/// An invalid threshold.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("threshold `{written}`, column {column}: {mistake}")]
#[diagnostic(help("{}", mistake.accepted()))]
pub struct ThresholdError {
    /// The text.
    pub written: String,
    /// The column of the mistake, in characters from 1.
    pub column: usize,
    /// The mistake.
    pub mistake: Mistake,
}

/// A mistake in a threshold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mistake {
    /// There is no operator.
    #[error("no comparison")]
    NoOperator,
    /// The operator is unknown.
    #[error("`{0}` is not a comparison")]
    Operator(String),
    /// The word is unknown.
    #[error("`{0}` is not a known measure")]
    Word(String),
    /// A rate without a metric.
    #[error("a rate of what?")]
    RateOfWhat,
    /// The text is not a percentile.
    #[error("`{0}` is not a percentile")]
    Percentile(String),
    /// The limit is not a number.
    #[error("`{0}` is not a number")]
    Number(String),
    /// The limit is not finite.
    #[error("`{0}` is not finite: the threshold would hold or fail in any case")]
    NotFinite(String),
    /// The metric does not have this unit.
    #[error("`{unit}` is not a unit of `{metric}`")]
    Unit {
        /// The unit.
        unit: String,
        /// The metric.
        metric: Metric,
    },
    /// The metric does not have this statistic.
    #[error("`{metric}` has no `{word}`")]
    NotOfMetric {
        /// The word.
        word: String,
        /// The metric.
        metric: Metric,
    },
    /// There is no such metric.
    #[error("there is no metric `{0}`")]
    UnknownMetric(String),
    /// A load result does not have this metric of k6.
    #[error("`{0}` is a metric of k6 that is not measured here")]
    NotMeasured(String),
    /// The braces of the tags do not match.
    #[error("the braces do not match")]
    Braces,
    /// The text is not a tag with a value.
    #[error("`{0}` is not a tag with a value")]
    Tag(String),
    /// Requests do not have this tag.
    #[error("requests do not have the tag `{0}` here")]
    UnknownTag(String),
    /// The text is not a duration.
    #[error("`{0}` is not a duration")]
    Duration(String),
}

impl Mistake {
    /// Returns what is valid instead.
    pub fn accepted(&self) -> String {
        match self {
            Mistake::NoOperator | Mistake::Operator(_) => {
                "compare by <, <=, >, >=, ==, === or !=, as in `p(95)<500`".into()
            }
            Mistake::Word(_) => {
                "p(N), avg, min, med, max, count, rate, or without a metric's name error share, rps, dropped".into()
            }
            Mistake::RateOfWhat => {
                "write `rps`, `error share`, or a metric: `http_req_failed: rate<0.01`".into()
            }
            Mistake::Percentile(_) => "a number from 0 to 100 in brackets, as in `p(99.9)`".into(),
            Mistake::Number(_) | Mistake::NotFinite(_) => {
                "a decimal number, as in `500`, `0.01` or `1.5e3`, then a unit if any: us, ms, s, %".into()
            }
            Mistake::Unit { metric, .. } => match metric.kind() {
                MetricKind::Trend => "times are in us, ms or s; without a unit in ms".into(),
                MetricKind::Rate => "shares are from 0 to 1, or in %".into(),
                MetricKind::Counter => "counts, and counts a second, have no unit".into(),
            },
            Mistake::NotOfMetric { metric, .. } => {
                format!("`{metric}` has {}", metric.kind().statistics())
            }
            Mistake::UnknownMetric(_) | Mistake::NotMeasured(_) => {
                let names: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
                format!("one of {}", names.join(", "))
            }
            Mistake::Braces | Mistake::Tag(_) => {
                "tags go in braces behind the metric, as in `http_req_duration{name:GET /quotes}`".into()
            }
            Mistake::UnknownTag(_) => {
                "tags are name (the endpoint), method, and expected_response:true of http_req_duration".into()
            }
            Mistake::Duration(_) => {
                "a duration from 0 up as in `10s`, `1m30s`, `500ms`, or a number of milliseconds".into()
            }
        }
    }
}

/// A mistake, with its offset in the parsed text, in bytes.
#[derive(Debug)]
pub(super) struct Misread {
    pub at: usize,
    pub mistake: Mistake,
}

impl Misread {
    /// Converts it to an error. The parsed text begins at byte `offset` of `written`.
    pub fn within(self, written: &str, offset: usize) -> ThresholdError {
        let before = written.get(..offset + self.at).unwrap_or(written);
        ThresholdError {
            written: written.to_owned(),
            column: before.chars().count() + 1,
            mistake: self.mistake,
        }
    }
}

/// Returns the `mistake` at the start of `part`, which must be a slice of `text`.
pub(super) fn misread(text: &str, part: &str, mistake: Mistake) -> Misread {
    let at = part.as_ptr().addr() - text.as_ptr().addr();
    Misread { at, mistake }
}
