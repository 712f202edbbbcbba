//! What of an endpoint is compared, and on which scale.

use std::fmt;

use harness::duration;
use serde::{Deserialize, Serialize};

/// What of an endpoint is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The median latency, in microseconds.
    P50,
    /// The 95th percentile of the latency, in microseconds.
    P95,
    /// The 99th percentile of the latency, in microseconds.
    P99,
    /// Which share of the requests failed, 0 to 1.
    ErrorShare,
    /// Good answers a second.
    Throughput,
}

/// What a change is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// ln(B / A): halved and doubled are as far from unchanged.
    LogRatio,
    /// B - A.
    Difference,
}

/// A value of each metric, in the order of [`Metric::ALL`].
pub(super) type Each<T> = [T; Metric::ALL.len()];

impl Metric {
    /// Every metric, in the order in which they are shown.
    pub const ALL: [Metric; 5] = [
        Metric::P50,
        Metric::P95,
        Metric::P99,
        Metric::ErrorShare,
        Metric::Throughput,
    ];

    /// The share of the latencies that lie at or below it, 0 to 1.
    pub(super) fn quantile(self) -> Option<f64> {
        match self {
            Metric::P50 => Some(0.5),
            Metric::P95 => Some(0.95),
            Metric::P99 => Some(0.99),
            Metric::ErrorShare | Metric::Throughput => None,
        }
    }

    /// The error share is 0 in most runs, of which there is no logarithm; one that is
    /// corrected by half an error would say more of how many requests there were than of the
    /// service. An error budget is spent by the difference, too.
    pub(super) fn scale(self) -> Scale {
        match self {
            Metric::ErrorShare => Scale::Difference,
            _ => Scale::LogRatio,
        }
    }

    /// A value on its scale as itself.
    pub(super) fn unscaled(self, value: f64) -> f64 {
        match self.scale() {
            Scale::LogRatio => value.exp(),
            Scale::Difference => value,
        }
    }

    /// Whether a change that is greater than 0 is for the worse.
    pub(super) fn more_is_worse(self) -> bool {
        self != Metric::Throughput
    }

    /// A value as people read it: `12.3 ms`, `0.20 %`, `104.2/s`.
    pub fn human(self, value: f64) -> String {
        match self {
            Metric::P50 | Metric::P95 | Metric::P99 => micros(value),
            Metric::ErrorShare => format!("{:.2} %", 100.0 * value),
            Metric::Throughput => format!("{value:.1}/s"),
        }
    }

    /// A change on this metric's scale as people read it: `+4.1 %`; of the error share, in
    /// percentage points, `+0.12 pp`.
    pub fn human_change(self, change: f64) -> String {
        match self.scale() {
            Scale::LogRatio => format!("{:+.1} %", 100.0 * change.exp_m1()),
            Scale::Difference => format!("{:+.2} pp", 100.0 * change),
        }
    }

    /// How large a change is, either way: `4.1 %`.
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

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Metric::P50 => "p50",
            Metric::P95 => "p95",
            Metric::P99 => "p99",
            Metric::ErrorShare => "error share",
            Metric::Throughput => "throughput",
        })
    }
}
