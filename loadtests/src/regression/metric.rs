//! The metrics of an endpoint that are compared, and their scales.

use std::fmt;

use base::duration;
use serde::{Deserialize, Serialize};

/// A metric that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ComparedMetric {
    /// The median latency, in microseconds.
    P50,
    /// The 95th percentile of the latency, in microseconds.
    P95,
    /// The 99th percentile of the latency, in microseconds.
    P99,
    /// The share of requests that failed, 0 to 1.
    ErrorShare,
    /// Good answers a second.
    Throughput,
}

/// A value of each metric, in the order of [`ComparedMetric::ALL`].
pub(super) type Each<T> = [T; ComparedMetric::ALL.len()];

impl ComparedMetric {
    /// Every metric, in the order in which they are shown.
    pub const ALL: [ComparedMetric; 5] = [
        ComparedMetric::P50,
        ComparedMetric::P95,
        ComparedMetric::P99,
        ComparedMetric::ErrorShare,
        ComparedMetric::Throughput,
    ];

    /// Returns the quantile of the latencies, 0 to 1.
    pub(super) fn quantile(self) -> Option<f64> {
        match self {
            ComparedMetric::P50 => Some(0.5),
            ComparedMetric::P95 => Some(0.95),
            ComparedMetric::P99 => Some(0.99),
            ComparedMetric::ErrorShare | ComparedMetric::Throughput => None,
        }
    }

    /// Converts a value from the metric's scale. The error share is not logarithmic, as it is 0 in
    /// most runs: its changes are B - A. All other changes are ln(B / A).
    pub(super) fn unscaled(self, value: f64) -> f64 {
        match self {
            ComparedMetric::ErrorShare => value,
            _ => value.exp(),
        }
    }

    /// Returns whether a higher value is worse.
    pub(super) fn more_is_worse(self) -> bool {
        self != ComparedMetric::Throughput
    }

    /// Formats a value: `12.3 ms`, `0.20 %`, `104.2/s`.
    pub fn human(self, value: f64) -> String {
        match self {
            ComparedMetric::P50 | ComparedMetric::P95 | ComparedMetric::P99 => micros(value),
            ComparedMetric::ErrorShare => format!("{:.2} %", 100.0 * value),
            ComparedMetric::Throughput => format!("{value:.1}/s"),
        }
    }

    /// Formats a change on this metric's scale: `+4.1 %`; for the error share in percentage points,
    /// `+0.12 pp`.
    pub fn human_change(self, change: f64) -> String {
        match self {
            ComparedMetric::ErrorShare => format!("{:+.2} pp", 100.0 * change),
            _ => format!("{:+.1} %", 100.0 * change.exp_m1()),
        }
    }

    /// Formats the size of a change, without its sign: `4.1 %`.
    pub fn human_size(self, change: f64) -> String {
        let signed = self.human_change(change.abs());
        signed.trim_start_matches('+').to_owned()
    }
}

fn micros(value: f64) -> String {
    match value {
        ..1_000.0 => format!("{value:.0} µs"),
        ..100_000.0 => format!("{:.2} ms", value / 1_000.0),
        _ => duration::human((value / 1_000.0) as u64),
    }
}

impl fmt::Display for ComparedMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ComparedMetric::P50 => "p50",
            ComparedMetric::P95 => "p95",
            ComparedMetric::P99 => "p99",
            ComparedMetric::ErrorShare => "error share",
            ComparedMetric::Throughput => "throughput",
        })
    }
}
