//! Whether thresholds hold: of a whole result, or of a run while it goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::expression::Statistic;
use super::metric::Metric;
use super::verdict::{Outcome, Verdict};
use super::{Selector, Threshold};
use crate::result::{Block, Distribution, Endpoint, Engine, LoadResult};

/// What thresholds are judged by. A run adds its blocks to it one by one as they end.
#[derive(Clone, Debug)]
pub struct Seen {
    engine: Engine,
    endpoints: BTreeMap<String, Tally>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sum: Block,
    /// Of those that failed, the ones that only a check found bad.
    pub(crate) failed_checks: u64,
}

impl Seen {
    /// Nothing yet.
    pub fn nothing(engine: Engine) -> Seen {
        Seen {
            engine,
            endpoints: BTreeMap::new(),
        }
    }

    /// All of a result.
    pub fn all(result: &LoadResult) -> Seen {
        let mut seen = Seen::nothing(result.engine);
        for (name, endpoint) in &result.endpoints {
            seen.add(name, endpoint);
        }
        seen
    }

    /// Adds what was counted of an endpoint since it was added to last.
    pub fn add(&mut self, name: &str, endpoint: &Endpoint) {
        let tally = self.endpoints.entry(name.to_owned()).or_default();
        tally.sum.add(&endpoint.whole());
        tally.failed_checks += endpoint.wrong_answers();
    }

    /// All endpoints together.
    pub fn whole(&self) -> Block {
        self.of(&Selector::default()).sum
    }

    pub(crate) fn of(&self, selector: &Selector) -> Tally {
        let mut whole = Tally::default();
        let of = |name: &&String| selector.selects(name);
        for (_, tally) in self.endpoints.iter().filter(|(name, _)| of(name)) {
            whole.sum.add(&tally.sum);
            whole.failed_checks += tally.failed_checks;
        }
        whole
    }
}

impl Tally {
    /// Requests whose answer had not an expected status, or was none.
    pub(crate) fn unexpected(&self) -> u64 {
        self.sum.failed.saturating_sub(self.failed_checks)
    }

    /// Requests with a good answer.
    pub(crate) fn good(&self) -> u64 {
        self.sum.requests.saturating_sub(self.sum.failed)
    }
}

/// Judges all of a result.
pub fn judge_all(thresholds: &[Threshold], result: &LoadResult) -> Vec<Verdict> {
    let seen = Seen::all(result);
    let lasted = Duration::from_secs_f64(result.seconds());
    let judged = thresholds.iter().map(|one| one.judge(&seen, lasted));
    judged.collect()
}

/// The verdict for which a run has to end now, if there is one: of a threshold that says so,
/// that fails after `elapsed`, and whose delay is over (k6: strictly). One without samples yet
/// waits for them.
pub fn to_abort(thresholds: &[Threshold], seen: &Seen, elapsed: Duration) -> Option<Verdict> {
    let due = |one: &&Threshold| one.abort_on_fail && one.delay.is_none_or(|it| it < elapsed);
    let mut judged = thresholds
        .iter()
        .filter(due)
        .map(|one| one.judge(seen, elapsed));
    judged.find(|verdict| verdict.outcome == Outcome::Failed)
}

impl Threshold {
    /// Judges what was seen in a run that lasted so long.
    pub fn judge(&self, seen: &Seen, lasted: Duration) -> Verdict {
        let tally = seen.of(&self.selector);
        let measured = self.is_measured(&tally, seen.engine);
        let value = measured.then(|| self.value(&tally, lasted)).flatten();
        Verdict {
            threshold: self.clone(),
            requests: tally.sum.requests,
            seen: value,
            outcome: match value {
                Some(value) if self.expression.holds(value) => Outcome::Held,
                Some(_) => Outcome::Failed,
                None if measured => Outcome::NoSamples,
                None => Outcome::NotMeasured,
            },
        }
    }

    fn is_measured(&self, tally: &Tally, engine: Engine) -> bool {
        let iterations = self.metric == Metric::Iterations;
        let told_apart = !self.selector.expected_only() || tally.unexpected() == 0;
        told_apart && !(iterations && engine == Engine::Closed)
    }

    /// What is compared; none of no samples.
    fn value(&self, tally: &Tally, lasted: Duration) -> Option<f64> {
        let sum = &tally.sum;
        if sum.requests == 0 {
            // Where all were dropped, that is a count too.
            let dropped = self.metric == Metric::Dropped && sum.dropped > 0;
            return dropped.then(|| self.counted(sum.dropped, lasted))?;
        }
        let requests = sum.requests as f64;
        match self.metric {
            Metric::Duration => millis(&sum.latency, self.expression.statistic),
            Metric::Failed => Some(tally.unexpected() as f64 / requests),
            Metric::ErrorShare => Some(sum.failed as f64 / requests),
            Metric::Checks => Some(tally.good() as f64 / requests),
            Metric::Requests | Metric::Iterations => self.counted(sum.requests, lasted),
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

/// Times in milliseconds; none of nothing.
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

/// The quantile, 0 to 1, at which a histogram of `count` times has rank ⌈N/100 · count⌉.
fn quantile(percentile: f64, count: f64) -> f64 {
    // 99.9 % of 41,000 is 40,959 and a rounding error: that is not yet the next rank.
    let rank = percentile * count / 100.0 * (1.0 - 4.0 * f64::EPSILON);
    let rank = rank.ceil().max(1.0);
    // From the middle between two ranks no rounding leads to another one.
    (rank - 0.5) / count
}
