//! Thresholds as they are configured, in the form of k6's `thresholds` option, and as they
//! are stored in reports.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Mistake, NotAThreshold};
use super::{Threshold, go_duration};

/// One threshold of k6's `thresholds` option: an expression, or one with what to do when it
/// fails.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "an expression such as \"p(95)<500\", or { threshold, abortOnFail, delayAbortEval }"
)]
pub enum Written {
    /// `"p(95)<500"`
    Plain(String),
    /// `{ threshold = "p(95)<500", abortOnFail = true, delayAbortEval = "10s" }`
    Aborting(Aborting),
}

/// A threshold with what to do when it fails.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Aborting {
    /// The expression.
    pub threshold: String,
    /// Whether the run ends once it fails.
    #[serde(default)]
    pub abort_on_fail: bool,
    /// Only when the run is older than this.
    pub delay_abort_eval: Option<Delay>,
}

/// A duration as k6 takes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Delay {
    /// In milliseconds.
    Millis(f64),
    /// `10s`, `1m30s`
    Text(String),
}

impl Threshold {
    /// All of k6's `thresholds` option: what must hold, by metric and tags.
    ///
    /// # Errors
    /// With the first that is not understood.
    pub fn of_option(
        option: &BTreeMap<String, Vec<Written>>,
    ) -> Result<Vec<Threshold>, NotAThreshold> {
        let all = option.iter();
        let all = all.flat_map(|(key, of_key)| of_key.iter().map(move |one| one.read(key)));
        all.collect()
    }
}

impl Written {
    fn read(&self, key: &str) -> Result<Threshold, NotAThreshold> {
        match self {
            Written::Plain(expression) => Threshold::of(key, expression),
            Written::Aborting(aborting) => {
                let delay = aborting.delay_abort_eval.as_ref().map(Delay::read);
                Ok(Threshold {
                    abort_on_fail: aborting.abort_on_fail,
                    delay: delay.transpose()?,
                    ..Threshold::of(key, &aborting.threshold)?
                })
            }
        }
    }
}

impl Delay {
    fn read(&self) -> Result<Duration, NotAThreshold> {
        let (read, written) = match self {
            Delay::Millis(millis) => (go_duration::from_millis(*millis), millis.to_string()),
            Delay::Text(text) => (go_duration::read(text), text.clone()),
        };
        read.ok_or_else(|| NotAThreshold {
            mistake: Mistake::Duration(written.clone()),
            column: 1,
            written,
        })
    }
}

/// A threshold as it is stored in reports.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Stored {
    threshold: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    abort_on_fail: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
}

impl From<Threshold> for Stored {
    fn from(threshold: Threshold) -> Stored {
        Stored {
            threshold: threshold.to_string(),
            abort_on_fail: threshold.abort_on_fail,
            delay: threshold.delay.map(go_duration::written),
        }
    }
}

impl TryFrom<Stored> for Threshold {
    type Error = NotAThreshold;

    fn try_from(stored: Stored) -> Result<Threshold, NotAThreshold> {
        let threshold: Threshold = stored.threshold.parse()?;
        let delay = stored.delay.map(|text| Delay::Text(text).read());
        Ok(Threshold {
            abort_on_fail: stored.abort_on_fail,
            delay: delay.transpose()?,
            ..threshold
        })
    }
}
