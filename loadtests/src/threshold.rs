//! Pass/fail rules over a load result, in k6's words and in ours.
//!
//! # What is accepted
//! k6's expressions as they are, `METHOD OP NUMBER`, under a metric's name and tags:
//! `http_req_duration{name:GET /quotes}: p(95)<500`. Without a metric the word itself says
//! what is meant:
//!
//! | word | of what |
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
//! # What is compared
//! Numbers as IEEE 754 doubles, exactly: no tolerance, neither for `<` nor for `==`. What is
//! no finite number holds no threshold, not even `!=`.
//!
//! * Times are milliseconds, from the *intended* start to the end of the answer, failures
//!   among them; k6 starts when the request is sent. `p(N)` is the time at rank ⌈N/100 · n⌉
//!   (k6 interpolates between two), of an HDR histogram of three significant digits: never
//!   below the true one, and at most 0.1 % above. `med` is `p(50)`.
//! * `http_req_failed` is the share without an expected status, as k6's; `error share` counts
//!   answers that failed a check too. `checks` takes each request for one check: that its
//!   answer is good.
//! * A counter's `rate` is per second of the run. An arrival of the open model is an
//!   iteration; the iterations of a closed model are not counted.
//!
//! # Where k6 is not followed
//! * No samples: k6 passes, here the threshold fails.
//! * A limit or percentile that is not finite or out of 0 to 100, and `p` without a number,
//!   which k6 takes for `p(0)`: refused, they would hold or fail whatever is measured. So is a
//!   delay below zero.
//! * Numbers in hexadecimal are refused.
//! * Metrics and tags that are not measured are refused, where k6 takes any tag and then
//!   passes for want of samples.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod error;
mod expression;
mod go_duration;
mod judge;
mod metric;
mod option;
mod selector;
#[cfg(test)]
mod tests;
mod verdict;

pub use error::{Mistake, NotAThreshold};
pub use expression::{Expression, Operator, Statistic};
pub use judge::{Seen, judge_all, to_abort};
pub(crate) use judge::{Tally, millis as millis_of};
pub use metric::{Kind, Metric};
pub use option::{Aborting, Delay, Written};
pub use selector::{Selector, Tag};
pub use verdict::{Outcome, Verdict};

pub(crate) use go_duration::written as go_duration;

use error::Misread;
use option::Stored;

/// A pass/fail rule over a load result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Threshold {
    /// What is judged.
    pub metric: Metric,
    /// Of which requests.
    pub selector: Selector,
    /// Where it has to be.
    pub expression: Expression,
    /// Whether the run ends once it fails (k6's `abortOnFail`).
    pub abort_on_fail: bool,
    /// Only when the run is older than this (k6's `delayAbortEval`).
    pub delay: Option<Duration>,
}

impl Threshold {
    /// As k6 has it: `key` is a metric's name with or without tags, `expression` what must
    /// hold of it.
    ///
    /// # Errors
    /// When either is not understood, or they do not go together.
    pub fn of(key: &str, expression: &str) -> Result<Threshold, NotAThreshold> {
        let (metric, selector) =
            selector::read_key(key).map_err(|misread| misread.within(key, 0))?;
        let (_, expression) = Expression::read(expression, Some(metric))
            .map_err(|misread| misread.within(expression, 0))?;
        Ok(Threshold::new(metric, selector, expression))
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

    /// The same of one endpoint alone.
    pub fn for_endpoint(mut self, name: &str) -> Threshold {
        self.selector.0.push(Tag::Name(name.to_owned()));
        self
    }

    /// The same, ending the run when it fails after `delay`.
    pub fn aborting(mut self, delay: Option<Duration>) -> Threshold {
        self.abort_on_fail = true;
        self.delay = delay;
        self
    }

    /// What k6 would have it under: `http_req_duration{name:GET /quotes}`.
    pub fn key(&self) -> String {
        format!("{}{}", self.metric, self.selector)
    }
}

/// `KEY: EXPRESSION`, the expression as it was written. Reads as the same threshold again.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.metric, self.selector, self.expression)
    }
}

/// `KEY: EXPRESSION`, or an expression whose word says what it is of.
impl FromStr for Threshold {
    type Err = NotAThreshold;

    fn from_str(text: &str) -> Result<Threshold, NotAThreshold> {
        let within = |misread: Misread, offset| misread.within(text, offset);
        // The last colon: those before it are in the tags, and an expression has none.
        let Some((key, expression)) = text.rsplit_once(':') else {
            let (metric, expression) =
                Expression::read(text, None).map_err(|misread| within(misread, 0))?;
            return Ok(Threshold::new(metric, Selector::default(), expression));
        };
        let indent = key.len() - key.trim_start().len();
        let (metric, selector) =
            selector::read_key(key.trim()).map_err(|misread| within(misread, indent))?;
        let (_, expression) = Expression::read(expression, Some(metric))
            .map_err(|misread| within(misread, key.len() + 1))?;
        Ok(Threshold::new(metric, selector, expression))
    }
}
