//! How well the prober itself kept up.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::figures::{histogram, record};

/// More than this at the 99th percentile, in microseconds, and the prober fell behind: at 200
/// requests/s every fourth would go out with its neighbours. On two cores that also run the
/// cluster, 8 ms were seen.
pub const P99_AT_MOST: u64 = 20_000;
/// More than this once, in microseconds, and it fell behind: a gap of half a second is what a
/// release is looked at for.
pub const MAX_AT_MOST: u64 = 500_000;

/// How well the prober itself kept up. Times are microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Requests that were due.
    pub due: u64,
    /// Of those, the ones it could not send.
    pub dropped: u64,
    /// How late it set about a request, at the 99th percentile.
    pub p99: u64,
    /// The same, at worst.
    pub max: u64,
    /// CPU time it used, in seconds.
    pub cpu_seconds: f64,
    /// How long it ran, in seconds.
    pub seconds: f64,
}

/// Why a prober's results are inconclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FellBehind(Lag);

impl Lag {
    /// Whether it did not keep up: then what it saw may be its own doing, and is inconclusive.
    pub fn fell_behind(&self) -> Option<FellBehind> {
        let kept_up = self.dropped == 0 && self.p99 <= P99_AT_MOST && self.max <= MAX_AT_MOST;
        (!kept_up).then_some(FellBehind(*self))
    }

    /// Of one core, what it used.
    pub fn share_of_a_core(&self) -> f64 {
        match self.seconds > 0.0 {
            true => self.cpu_seconds / self.seconds,
            false => 0.0,
        }
    }
}

impl fmt::Display for FellBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lag {
            due,
            dropped,
            p99,
            max,
            ..
        } = self.0;
        let millis = |micros: u64| micros as f64 / 1e3;
        write!(
            f,
            "the prober fell behind: {dropped} of {due} requests dropped, lag {:.1} ms at the \
             99th percentile (at most {:.0} ms) and {:.1} ms at worst (at most {:.0} ms)",
            millis(p99),
            millis(P99_AT_MOST),
            millis(max),
            millis(MAX_AT_MOST)
        )
    }
}

/// Counts lags as they come.
pub(crate) struct Recorder {
    lags: Histogram<u64>,
    dropped: u64,
}

impl Recorder {
    pub fn new() -> Recorder {
        Recorder {
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
        let mut recorder = Recorder::new();
        lags.into_iter().for_each(|lag| recorder.sent(lag));
        recorder.lag(1.0, 4.0)
    }

    #[test]
    fn a_lag_now_and_then_is_no_falling_behind() {
        let mostly = |lag| std::iter::repeat_n(500, 995).chain(std::iter::repeat_n(lag, 5));
        assert_eq!(lag(mostly(490_000)).fell_behind(), None);
        let once_too_late = lag(mostly(510_000)).fell_behind().unwrap().to_string();
        assert!(once_too_late.contains("510"), "{once_too_late}");
        assert!(lag([21_000; 100]).fell_behind().is_some());
    }

    #[test]
    fn one_dropped_request_is_enough() {
        let mut recorder = Recorder::new();
        recorder.dropped(0);
        let lag = recorder.lag(1.0, 4.0);
        assert!(lag.fell_behind().is_some());
        assert_eq!((lag.due, lag.dropped), (1, 1));
        assert_eq!(lag.share_of_a_core(), 0.25);
    }
}
