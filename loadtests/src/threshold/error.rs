//! What is wrong with a threshold, where, and what would be right.

use miette::Diagnostic;
use thiserror::Error;

use super::metric::{Kind, Metric};

/// What was written is no threshold.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("threshold `{written}`, column {column}: {mistake}")]
#[diagnostic(help("{}", mistake.accepted()))]
pub struct NotAThreshold {
    /// What was written.
    pub written: String,
    /// Where the mistake is, in characters from 1.
    pub column: usize,
    /// What it is.
    pub mistake: Mistake,
}

/// What is wrong with a threshold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mistake {
    /// It compares nothing.
    #[error("no comparison")]
    NoOperator,
    /// It compares in a way that is not known.
    #[error("`{0}` is no comparison")]
    Operator(String),
    /// What is compared is not known.
    #[error("`{0}` is nothing that is measured")]
    Word(String),
    /// A rate of many things.
    #[error("a rate of what?")]
    RateOfWhat,
    /// Not a percentile.
    #[error("`{0}` is no percentile")]
    Percentile(String),
    /// What is compared with is no number.
    #[error("`{0}` is no number")]
    Number(String),
    /// What is compared with is no number that anything could be measured against.
    #[error("`{0}` is not finite: the threshold would hold or fail whatever is measured")]
    NotFinite(String),
    /// The unit does not fit.
    #[error("`{unit}` is no unit of `{metric}`")]
    Unit {
        /// As it was written.
        unit: String,
        /// What it was written of.
        metric: Metric,
    },
    /// The word does not fit.
    #[error("`{metric}` has no `{word}`")]
    NotOfMetric {
        /// As it was written.
        word: String,
        /// What it was written of.
        metric: Metric,
    },
    /// No such metric.
    #[error("no metric is called `{0}`")]
    UnknownMetric(String),
    /// k6 measures it, and a load result does not have it.
    #[error("`{0}` is k6's, and is not measured here")]
    NotMeasured(String),
    /// The braces of the tags do not match.
    #[error("the braces do not match")]
    Braces,
    /// Not a tag with its value.
    #[error("`{0}` is no tag with a value")]
    Tag(String),
    /// Requests are not told apart by it.
    #[error("requests are not told apart by `{0}` here")]
    UnknownTag(String),
    /// Not a time span.
    #[error("`{0}` is no duration")]
    Duration(String),
}

impl Mistake {
    /// What is accepted in its place.
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
            Mistake::Unit { metric, .. } => units(metric.kind()).into(),
            Mistake::NotOfMetric { metric, .. } => {
                format!("`{metric}` has {}", metric.kind().words())
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

fn units(kind: Kind) -> &'static str {
    match kind {
        Kind::Trend => "times are in us, ms or s; without a unit in ms",
        Kind::Rate => "shares are from 0 to 1, or in %",
        Kind::Counter => "counts, and counts a second, have no unit",
    }
}

/// A mistake, and where in the text that is being read: bytes from its start.
#[derive(Debug)]
pub(super) struct Misread {
    pub at: usize,
    pub mistake: Mistake,
}

impl Misread {
    /// The error, where the text read begins `offset` bytes into `written`.
    pub fn within(self, written: &str, offset: usize) -> NotAThreshold {
        let before = written.get(..offset + self.at).unwrap_or(written);
        NotAThreshold {
            written: written.to_owned(),
            column: before.chars().count() + 1,
            mistake: self.mistake,
        }
    }
}

/// Shorthand: `mistake`, where `part` of `whole` begins. `part` must be a slice of `whole`.
pub(super) fn misread(whole: &str, part: &str, mistake: Mistake) -> Misread {
    let at = part.as_ptr().addr() - whole.as_ptr().addr();
    Misread { at, mistake }
}
