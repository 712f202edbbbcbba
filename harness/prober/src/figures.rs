//! What is said of many answers. Figures of disjoint answers merge exactly.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;

use crate::answer::{Answer, Outcome};
use crate::bound::error_rate_at_most;

/// Microseconds, three significant digits. It grows as it must.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are among those a histogram may have")
}

/// Counts one more value. Not by `saturating_record`, which would not let it grow.
pub(crate) fn record(histogram: &mut Histogram<u64>, micros: u64) {
    let recorded = histogram.record(micros);
    recorded.expect("a histogram that grows holds any value");
}

/// A failure, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// What happened.
    pub outcome: Outcome,
    /// The version it is attributed to; empty where that is not known.
    pub version: String,
    /// The instance it is attributed to; empty where that is not known.
    pub instance: String,
}

/// What is said of many answers. Times are microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Sent.
    pub requests: u64,
    /// Due, and not sent.
    pub dropped: u64,
    /// Sent and without a good answer, by what happened and whose it is.
    pub failures: BTreeMap<Failure, u64>,
    /// Which versions answered how often, whatever the status.
    pub versions: BTreeMap<String, u64>,
    /// Of good answers, from when they were due.
    pub latency: Histogram<u64>,
    /// The longest time without a good answer in any one lane, of those that began here.
    pub longest_gap: u64,
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            requests: 0,
            dropped: 0,
            failures: BTreeMap::new(),
            versions: BTreeMap::new(),
            latency: histogram(),
            longest_gap: 0,
        }
    }
}

impl Figures {
    /// Counts one more answer.
    pub fn add(&mut self, answer: &Answer) {
        if answer.outcome == Outcome::Dropped {
            self.dropped += 1;
            return;
        }
        self.requests += 1;
        if let Some(version) = answer.version() {
            *self.versions.entry(version.to_owned()).or_default() += 1;
        }
        match answer.good {
            true => record(&mut self.latency, answer.took),
            false => *self.failures.entry(Failure::of(answer)).or_default() += 1,
        }
    }

    /// Counts other answers too.
    pub fn merge(&mut self, other: &Figures) {
        self.requests += other.requests;
        self.dropped += other.dropped;
        for (failure, count) in &other.failures {
            *self.failures.entry(failure.clone()).or_default() += count;
        }
        for (version, count) in &other.versions {
            *self.versions.entry(version.clone()).or_default() += count;
        }
        let added = self.latency.add(&other.latency);
        added.expect("a histogram that grows holds any other's values");
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }

    /// All failures.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Failures that were a connection's untimely end.
    pub fn resets(&self) -> u64 {
        let failures = self.failures.iter();
        let resets = failures.filter(|(failure, _)| failure.outcome == Outcome::Reset);
        resets.map(|(_, count)| count).sum()
    }

    /// The latency of good answers at a quantile, 0 to 1; none where there is no good answer.
    pub fn latency_at(&self, quantile: f64) -> Option<u64> {
        let there_is = !self.latency.is_empty();
        there_is.then(|| self.latency.value_at_quantile(quantile))
    }

    /// See [`error_rate_at_most`].
    pub fn error_rate_at_most(&self) -> Option<f64> {
        error_rate_at_most(self.failed(), self.requests)
    }
}

impl Failure {
    fn of(answer: &Answer) -> Failure {
        let by = answer.by.as_deref().cloned().unwrap_or_default();
        Failure {
            outcome: answer.outcome.clone(),
            version: by.version,
            instance: by.instance,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version.is_empty() && self.instance.is_empty() {
            true => write!(f, "{} of nobody known", self.outcome),
            false => write!(f, "{} of {} {}", self.outcome, self.version, self.instance),
        }
    }
}

/// `30000 requests, 0 failed (at most 0.010 % with 95 % confidence), p50 1.2 ms, …`.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |micros: u64| micros as f64 / 1e3;
        write!(f, "{} requests, {} failed", self.requests, self.failed())?;
        if let Some(bound) = self.error_rate_at_most() {
            write!(f, " (at most {:.3} % with 95 % confidence)", bound * 100.0)?;
        }
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            if let Some(latency) = self.latency_at(quantile) {
                write!(f, ", {name} {:.1} ms", millis(latency))?;
            }
        }
        write!(f, ", longest gap {:.1} ms", millis(self.longest_gap))?;
        if self.dropped > 0 {
            write!(f, ", {} dropped by the prober", self.dropped)?;
        }
        for (failure, count) in &self.failures {
            write!(f, "; {count} x {failure}")?;
        }
        Ok(())
    }
}
