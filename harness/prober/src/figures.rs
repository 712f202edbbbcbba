//! Statistics of answers. Figures of disjoint answers merge exactly.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;

use crate::answer::{Answer, RequestOutcome};
use crate::error_rate_bound::error_rate_at_most;

/// Returns a histogram of microseconds with three significant digits, which grows as needed.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are among those a histogram may have")
}

/// Adds a value. `saturating_record` would not let the histogram grow.
pub(crate) fn record(histogram: &mut Histogram<u64>, micros: u64) {
    let recorded = histogram.record(micros);
    recorded.expect("a histogram that grows holds any value");
}

/// A kind of failure, and its origin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributedFailure {
    /// The outcome.
    pub outcome: RequestOutcome,
    /// The version it is attributed to; empty if unknown.
    pub version: String,
    /// The instance it is attributed to; empty if unknown.
    pub instance: String,
}

/// Statistics of answers. Times are microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// The requests that were sent.
    pub requests: u64,
    /// The requests that were due but not sent.
    pub dropped: u64,
    /// The requests without a good answer, by failure.
    pub failures: BTreeMap<AttributedFailure, u64>,
    /// The responses of each version, with any status.
    pub versions: BTreeMap<String, u64>,
    /// The latency of good answers, from when they were due.
    pub latency: Histogram<u64>,
    /// The longest time without a good answer in any lane, if it began here.
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
    /// Adds an answer.
    pub fn add(&mut self, answer: &Answer) {
        if answer.outcome == RequestOutcome::Dropped {
            self.dropped += 1;
            return;
        }
        self.requests += 1;
        if let Some(version) = answer.version() {
            *self.versions.entry(version.to_owned()).or_default() += 1;
        }
        match answer.good {
            true => record(&mut self.latency, answer.took),
            false => {
                let failure = AttributedFailure::of(answer);
                *self.failures.entry(failure).or_default() += 1;
            }
        }
    }

    /// Adds the answers of other figures.
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

    /// Returns the number of failures.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Returns the number of connection resets.
    pub fn resets(&self) -> u64 {
        let failures = self.failures.iter();
        let resets = failures.filter(|(failure, _)| failure.outcome == RequestOutcome::Reset);
        resets.map(|(_, count)| count).sum()
    }

    /// Returns the latency of good answers at a quantile, 0 to 1; none without good answers.
    pub fn latency_at(&self, quantile: f64) -> Option<u64> {
        (!self.latency.is_empty()).then(|| self.latency.value_at_quantile(quantile))
    }

    /// Returns "0 of 31204 requests failed: at most 0.0097 % with 95 % confidence".
    pub fn failed_share(&self) -> String {
        let bound = self.error_rate_at_most().map_or_else(String::new, |it| {
            format!(": at most {:.4} % with 95 % confidence", it * 100.0)
        });
        format!(
            "{} of {} requests failed{bound}",
            self.failed(),
            self.requests
        )
    }

    /// See [`error_rate_at_most`].
    pub fn error_rate_at_most(&self) -> Option<f64> {
        error_rate_at_most(self.failed(), self.requests)
    }
}

impl AttributedFailure {
    fn of(answer: &Answer) -> AttributedFailure {
        let by = answer.by.as_deref().cloned().unwrap_or_default();
        AttributedFailure {
            outcome: answer.outcome.clone(),
            version: by.version,
            instance: by.instance,
        }
    }
}

impl fmt::Display for AttributedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version.is_empty() && self.instance.is_empty() {
            true => write!(f, "{} of unknown origin", self.outcome),
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
