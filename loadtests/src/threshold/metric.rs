//! The metrics of thresholds.

use std::fmt;

/// A metric of thresholds, with k6's name, except for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `http_req_duration`: from the intended start to the end of the answer, in ms.
    Duration,
    /// `http_req_failed`: the share without an expected status.
    Failed,
    /// `http_reqs`: requests sent.
    Requests,
    /// `iterations`: arrivals that were sent, in the open model.
    Iterations,
    /// `dropped_iterations`: arrivals that were due and not sent.
    Dropped,
    /// `data_received`: bytes of the answers' bodies.
    Received,
    /// `checks`: the share of good answers.
    Checks,
    /// `error_share`, which k6 does not have: the share without a good answer.
    ErrorShare,
}

/// The kind of a metric, which decides its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Times: an average, percentiles.
    Trend,
    /// A sum, and how much a second.
    Counter,
    /// A share, 0 to 1.
    Rate,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Metric; 8] = [
        Metric::Duration,
        Metric::Failed,
        Metric::Requests,
        Metric::Iterations,
        Metric::Dropped,
        Metric::Received,
        Metric::Checks,
        Metric::ErrorShare,
    ];

    /// Returns its name, which is k6's if k6 has the metric.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Duration => "http_req_duration",
            Metric::Failed => "http_req_failed",
            Metric::Requests => "http_reqs",
            Metric::Iterations => "iterations",
            Metric::Dropped => "dropped_iterations",
            Metric::Received => "data_received",
            Metric::Checks => "checks",
            Metric::ErrorShare => "error_share",
        }
    }

    /// Returns its kind.
    pub fn kind(self) -> MetricKind {
        match self {
            Metric::Duration => MetricKind::Trend,
            Metric::Requests | Metric::Iterations | Metric::Dropped | Metric::Received => {
                MetricKind::Counter
            }
            Metric::Failed | Metric::Checks | Metric::ErrorShare => MetricKind::Rate,
        }
    }
}

impl MetricKind {
    /// Returns the statistics of this kind.
    pub(super) fn statistics(self) -> &'static str {
        match self {
            MetricKind::Trend => "avg, min, med, max, p(N)",
            MetricKind::Counter => "count, rate",
            MetricKind::Rate => "rate",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
