//! The prober's own lag.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::figures::{histogram, record};

/// The highest lag of any request, in microseconds: the analysis of a release looks for gaps of
/// half a second.
const MAX_AT_MOST: u64 = 500_000;
/// The highest lag at the 99th percentile, in microseconds: a tenth of such a gap. On two cores
/// that also run the cluster, 8 ms were measured, and 29 ms on a busy host.
const P99_AT_MOST: u64 = MAX_AT_MOST / 10;

/// The prober's own lag. Times are microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// The requests that were due.
    pub due: u64,
    /// Those of them that it could not send.
    pub dropped: u64,
    /// The delay of the start of a request, at the 99th percentile.
    pub p99: u64,
    /// The longest delay of the start of a request.
    pub max: u64,
    /// The CPU time, in seconds.
    pub cpu_seconds: f64,
    /// The run time, in seconds.
    pub seconds: f64,
}

/// Why a prober's results are inconclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FellBehind(Lag);

impl Lag {
    /// Returns the reason if the prober fell behind. Its results are then inconclusive, as it may
    /// have caused them.
    pub fn fell_behind(&self) -> Option<FellBehind> {
        let kept_up = self.dropped == 0 && self.p99 <= P99_AT_MOST && self.max <= MAX_AT_MOST;
        (!kept_up).then_some(FellBehind(*self))
    }

    /// Returns the share of one core that it used.
    pub fn share_of_a_core(&self) -> f64 {
        match self.seconds > 0.0 {
            true => self.cpu_seconds / self.seconds,
            false => 0.0,
        }
    }
}

impl fmt::Display for FellBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lag { due, dropped, .. } = self.0;
        let millis = [self.0.p99, P99_AT_MOST, self.0.max, MAX_AT_MOST];
        let [p99, p99_at_most, max, max_at_most] = millis.map(|micros| micros as f64 / 1e3);
        write!(
            f,
            "the prober fell behind: {dropped} of {due} requests dropped, lag {p99:.1} ms at the \
             99th percentile (at most {p99_at_most:.0} ms) and {max:.1} ms at worst (at most \
             {max_at_most:.0} ms)"
        )
    }
}

/// Collects lags.
pub(crate) struct LagRecorder {
    lags: Histogram<u64>,
    dropped: u64,
}

impl LagRecorder {
    pub fn new() -> LagRecorder {
        LagRecorder {
            lags: histogram(),
            dropped: 0,
        }
    }

    pub fn sent(&mut self, after: u64) {
        record(&mut self.lags, after);
    }

    pub fn dropped(&mut self, after: u64) {
        self.sent(after);
        self.dropped += 1;
    }

    pub fn lag(&self, cpu_seconds: f64, seconds: f64) -> Lag {
        Lag {
            due: self.lags.len(),
            dropped: self.dropped,
            p99: self.lags.value_at_quantile(0.99),
            max: self.lags.max(),
            cpu_seconds,
            seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(lags: impl IntoIterator<Item = u64>) -> Lag {
        let mut recorder = LagRecorder::new();
        lags.into_iter().for_each(|lag| recorder.sent(lag));
        recorder.lag(1.0, 4.0)
    }

    #[test]
    fn an_occasional_lag_is_accepted() {
        let mostly = |lag| std::iter::repeat_n(500, 995).chain(std::iter::repeat_n(lag, 5));
        assert_eq!(lag(mostly(490_000)).fell_behind(), None);
        let too_late = lag(mostly(510_000)).fell_behind().unwrap().to_string();
        assert!(too_late.contains("510"), "{too_late}");
        assert!(lag([49_000; 100]).fell_behind().is_none());
        assert!(lag([51_000; 100]).fell_behind().is_some());
    }

    #[test]
    fn one_dropped_request_is_too_many() {
        let mut recorder = LagRecorder::new();
        recorder.dropped(0);
        let lag = recorder.lag(1.0, 4.0);
        assert!(lag.fell_behind().is_some());
        assert_eq!((lag.due, lag.dropped), (1, 1));
        assert_eq!(lag.share_of_a_core(), 0.25);
    }
}
