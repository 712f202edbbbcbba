//! Pass/fail rules over a load result, in the forms of k6 and of the harness.
//!
//! # Syntax
//! k6's expressions, `METHOD OP NUMBER`, after a metric's name and tags:
//! `http_req_duration{name:GET /quotes}: p(95)<500`. Without a metric the word selects it:
//!
//! | word | metric |
//! |---|---|
//! | `p(N)`, `avg`, `min`, `med`, `max` | latency, in ms: `p(99)<100`, `p(99)<100ms`, `avg<0.2s` |
//! | `error share`, `error_share` | requests without a good answer, 0 to 1: `error share<0.01`, `error share<1%` |
//! | `rps` | requests a second |
//! | `count` | requests |
//! | `dropped` | arrivals that were due and not sent |
//!
//! Operators are `<`, `<=`, `>`, `>=`, `==`, `===` (the same) and `!=`. Tags are `name` (the
//! endpoint), `method`, and `expected_response:true` of `http_req_duration`.
//!
//! # Values
//! Numbers are IEEE 754 doubles, compared exactly: there is no tolerance for `<` or `==`. A value
//! that is not finite fails every threshold, even `!=`.
//!
//! * Times are milliseconds, from the *intended* start to the end of the answer, including
//!   failures; in k6 they start when the request is sent. `p(N)` is the time at rank ⌈N/100 · n⌉
//!   (k6 interpolates between two), from an HDR histogram with three significant digits: never
//!   below the true one, and at most 0.1 % above. `med` is `p(50)`.
//! * `http_req_failed` is the share without an expected status, as in k6; `error share` also counts
//!   answers that failed a check. `checks` counts each request as one check: that its answer is
//!   good.
//! * A counter's `rate` is per second of the run. An arrival of the open model is an iteration; the
//!   iterations of a closed model are not counted.
//!
//! # Differences to k6
//! * Without samples a threshold passes in k6, and fails here.
//! * A limit that is not finite, a percentile outside 0 to 100, and `p` without a number (`p(0)` in
//!   k6) are refused, as the threshold would hold or fail in any case. So is a delay below zero.
//! * Hexadecimal numbers are refused.
//! * Metrics and tags that are not measured are refused. k6 accepts any tag, and passes without
//!   samples.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod error;
mod evaluate;
mod expression;
mod go_duration;
mod metric;
mod result;
mod selector;
#[cfg(test)]
mod tests;

pub use error::{Mistake, ThresholdError};
pub use evaluate::{ObservedLoad, evaluate_all, to_abort};
pub(crate) use evaluate::{Tally, millis as millis_of};
pub use expression::{Expression, Operator, Statistic};
pub use metric::{Metric, MetricKind};
pub use result::{ThresholdOutcome, ThresholdResult};
pub use selector::{Selector, Tag};

pub(crate) use go_duration::written as go_duration;

/// A pass/fail rule over a load result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "StoredThreshold", try_from = "StoredThreshold")]
pub struct Threshold {
    /// The metric.
    pub metric: Metric,
    /// The requests.
    pub selector: Selector,
    /// The condition.
    pub expression: Expression,
    /// Whether it aborts the run when it fails (k6's `abortOnFail`).
    pub abort_on_fail: bool,
    /// It aborts only after this time (k6's `delayAbortEval`).
    pub delay: Option<Duration>,
}

impl Threshold {
    /// Parses k6's form: `key` is a metric's name with or without tags, `expression` the condition.
    ///
    /// # Errors
    /// If either is invalid, or they do not match.
    pub fn of(key: &str, expression: &str) -> Result<Threshold, ThresholdError> {
        let read = selector::read_key(key);
        let (metric, selector) = read.map_err(|misread| misread.within(key, 0))?;
        let read = Expression::read(expression, Some(metric));
        let (_, condition) = read.map_err(|misread| misread.within(expression, 0))?;
        Ok(Threshold::new(metric, selector, condition))
    }

    fn new(metric: Metric, selector: Selector, expression: Expression) -> Threshold {
        Threshold {
            metric,
            selector,
            expression,
            abort_on_fail: false,
            delay: None,
        }
    }

    /// Returns the same threshold for one endpoint only.
    pub fn for_endpoint(mut self, name: &str) -> Threshold {
        self.selector.0.push(Tag::Name(name.to_owned()));
        self
    }

    /// Returns the same threshold, which aborts the run when it fails after `delay`.
    pub fn aborting(mut self, delay: Option<Duration>) -> Threshold {
        self.abort_on_fail = true;
        self.delay = delay;
        self
    }

    /// Returns its key in k6: `http_req_duration{name:GET /quotes}`.
    pub fn key(&self) -> String {
        format!("{}{}", self.metric, self.selector)
    }
}

/// `KEY: EXPRESSION`, with the original expression. It can be parsed to the same threshold.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.metric, self.selector, self.expression)
    }
}

/// `KEY: EXPRESSION`, or an expression whose word selects the metric.
impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Threshold, ThresholdError> {
        // The last colon: earlier ones are in the tags, and an expression has none.
        let Some((key, expression)) = text.rsplit_once(':') else {
            let read = Expression::read(text, None);
            let (metric, expression) = read.map_err(|misread| misread.within(text, 0))?;
            return Ok(Threshold::new(metric, Selector::default(), expression));
        };
        let indent = key.len() - key.trim_start().len();
        let read = selector::read_key(key.trim());
        let (metric, selector) = read.map_err(|misread| misread.within(text, indent))?;
        let read = Expression::read(expression, Some(metric));
        let (_, expression) = read.map_err(|misread| misread.within(text, key.len() + 1))?;
        Ok(Threshold::new(metric, selector, expression))
    }
}

/// A threshold in reports.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct StoredThreshold {
    threshold: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    abort_on_fail: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
}

impl From<Threshold> for StoredThreshold {
    fn from(threshold: Threshold) -> StoredThreshold {
        StoredThreshold {
            threshold: threshold.to_string(),
            abort_on_fail: threshold.abort_on_fail,
            delay: threshold.delay.map(go_duration::written),
        }
    }
}

impl TryFrom<StoredThreshold> for Threshold {
    type Error = ThresholdError;

    fn try_from(stored: StoredThreshold) -> Result<Threshold, ThresholdError> {
        let delay = stored.delay.map(|text| {
            go_duration::read(&text).ok_or_else(|| ThresholdError {
                mistake: Mistake::Duration(text.clone()),
                column: 1,
                written: text,
            })
        });
        Ok(Threshold {
            abort_on_fail: stored.abort_on_fail,
            delay: delay.transpose()?,
            ..stored.threshold.parse()?
        })
    }
}
