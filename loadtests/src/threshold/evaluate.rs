//! Evaluates thresholds, on a whole result or during a run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::expression::Statistic;
use super::metric::Metric;
use super::result::{ThresholdOutcome, ThresholdResult};
use super::{Selector, Threshold};
use crate::result::{Block, Distribution, Endpoint, EngineKind, LoadResult};

/// The load on which thresholds are evaluated. A run adds its requests.
#[derive(Clone, Debug)]
pub struct ObservedLoad {
    engine: EngineKind,
    endpoints: BTreeMap<String, Tally>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sum: Block,
    /// Requests that failed only because of a check.
    pub(crate) failed_checks: u64,
}

impl ObservedLoad {
    /// An empty load.
    pub fn nothing(engine: EngineKind) -> ObservedLoad {
        ObservedLoad {
            engine,
            endpoints: BTreeMap::new(),
        }
    }

    /// The load of a result.
    pub fn all(result: &LoadResult) -> ObservedLoad {
        let mut load = ObservedLoad::nothing(result.engine);
        for (name, endpoint) in &result.endpoints {
            load.add(name, endpoint);
        }
        load
    }

    /// Adds the counts of an endpoint since the last call.
    pub fn add(&mut self, name: &str, endpoint: &Endpoint) {
        let tally = self.endpoints.entry(name.to_owned()).or_default();
        tally.sum.add(&endpoint.whole());
        tally.failed_checks += endpoint.wrong_answers();
    }

    /// Returns the sum of all endpoints.
    pub fn whole(&self) -> Block {
        self.of(&Selector::default()).sum
    }

    pub(crate) fn of(&self, selector: &Selector) -> Tally {
        let mut whole = Tally::default();
        let endpoints = self.endpoints.iter();
        for (_, tally) in endpoints.filter(|(name, _)| selector.selects(name)) {
            whole.sum.add(&tally.sum);
            whole.failed_checks += tally.failed_checks;
        }
        whole
    }
}

impl Tally {
    /// Requests without an answer with an expected status.
    pub(crate) fn unexpected(&self) -> u64 {
        self.sum.failed.saturating_sub(self.failed_checks)
    }

    /// Requests with a good answer.
    pub(crate) fn good(&self) -> u64 {
        self.sum.requests.saturating_sub(self.sum.failed)
    }
}

/// Evaluates all thresholds on a result.
pub fn evaluate_all(thresholds: &[Threshold], result: &LoadResult) -> Vec<ThresholdResult> {
    let load = ObservedLoad::all(result);
    let lasted = Duration::from_secs_f64(result.seconds());
    let thresholds = thresholds.iter();
    let verdicts = thresholds.map(|threshold| threshold.evaluate(&load, lasted));
    verdicts.collect()
}

/// Returns the verdict that aborts a run after `elapsed`, if any: of a threshold that aborts,
/// fails, and whose delay is shorter (as in k6). A threshold without samples does not abort a run.
pub fn to_abort(
    thresholds: &[Threshold],
    load: &ObservedLoad,
    elapsed: Duration,
) -> Option<ThresholdResult> {
    let is_due = |threshold: &&Threshold| {
        threshold.abort_on_fail && threshold.delay.is_none_or(|delay| delay < elapsed)
    };
    let due = thresholds.iter().filter(is_due);
    let mut verdicts = due.map(|threshold| threshold.evaluate(load, elapsed));
    verdicts.find(|verdict| verdict.outcome == ThresholdOutcome::Failed)
}

impl Threshold {
    /// Evaluates it on the load of a run that lasted this long.
    pub fn evaluate(&self, load: &ObservedLoad, lasted: Duration) -> ThresholdResult {
        let tally = load.of(&self.selector);
        let measured = self.is_measured(&tally, load.engine);
        let value = measured.then(|| self.value(&tally, lasted)).flatten();
        ThresholdResult {
            threshold: self.clone(),
            requests: tally.sum.requests,
            seen: value,
            outcome: match value {
                Some(value) if self.expression.holds(value) => ThresholdOutcome::Held,
                Some(_) => ThresholdOutcome::Failed,
                None if measured => ThresholdOutcome::NoSamples,
                None => ThresholdOutcome::NotMeasured,
            },
        }
    }

    fn is_measured(&self, tally: &Tally, engine: EngineKind) -> bool {
        let iterations = self.metric == Metric::Iterations;
        let distinguishable = !self.selector.expected_only() || tally.unexpected() == 0;
        distinguishable && !(iterations && engine == EngineKind::Closed)
    }

    /// Returns the value to compare; none without samples.
    fn value(&self, tally: &Tally, lasted: Duration) -> Option<f64> {
        let sum = &tally.sum;
        if sum.requests == 0 {
            // If all arrivals were dropped, their number is a sample.
            let dropped = self.metric == Metric::Dropped && sum.dropped > 0;
            return dropped.then(|| self.counted(sum.dropped, lasted))?;
        }
        let requests = sum.requests as f64;
        match self.metric {
            Metric::Duration => millis(&sum.latency, self.expression.statistic),
            Metric::Failed => Some(tally.unexpected() as f64 / requests),
            Metric::ErrorShare => Some(sum.failed as f64 / requests),
            Metric::Checks => Some(tally.good() as f64 / requests),
            Metric::Requests => self.counted(sum.requests, lasted),
            Metric::Iterations => self.counted(sum.arrivals, lasted),
            Metric::Received => self.counted(sum.received, lasted),
            Metric::Dropped => self.counted(sum.dropped, lasted),
        }
    }

    fn counted(&self, count: u64, lasted: Duration) -> Option<f64> {
        match self.expression.statistic {
            Statistic::Rate => (!lasted.is_zero()).then(|| count as f64 / lasted.as_secs_f64()),
            _ => Some(count as f64),
        }
    }
}

/// Returns a statistic of times, in milliseconds; none without times.
pub(crate) fn millis(times: &Distribution, statistic: Statistic) -> Option<f64> {
    let histogram = times.histogram();
    let at_percentile = |percentile| {
        histogram.value_at_quantile(quantile(percentile, histogram.len() as f64)) as f64
    };
    let micros = match statistic {
        _ if histogram.is_empty() => return None,
        Statistic::Average => histogram.mean(),
        Statistic::Min => histogram.min() as f64,
        Statistic::Max => histogram.max() as f64,
        Statistic::Median => at_percentile(50.0),
        Statistic::Percentile(percentile) => at_percentile(percentile),
        Statistic::Count | Statistic::Rate => return None,
    };
    Some(micros / 1000.0)
}

/// Returns the quantile, 0 to 1, at which a histogram of `count` times has rank ⌈N/100 · count⌉.
fn quantile(percentile: f64, count: f64) -> f64 {
    // 99.9 % of 41,000 is 40,959 with a rounding error, which must not result in the next rank.
    let rank = percentile * count / 100.0 * (1.0 - 4.0 * f64::EPSILON);
    let rank = rank.ceil().max(1.0);
    // In the middle between two ranks, a rounding error does not change the rank.
    (rank - 0.5) / count
}
