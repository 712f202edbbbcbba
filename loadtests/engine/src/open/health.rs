//! How the load generator itself fared, and whether that spoils what it measured.

use std::thread::available_parallelism;

use prober::lag::P99_AT_MOST;

use crate::result::Distribution;

/// A worker that was busy for more of its time than this had no room to be on time.
const BUSY_AT_MOST: f64 = 0.95;

/// How the load generator itself fared.
pub struct Health<'a> {
    /// Of all arrivals.
    pub lag: &'a Distribution,
    /// Of its time, what the busiest worker used of a core: 0 to 1.
    pub busiest: f64,
    /// Arrivals for which the system gave no port or file.
    pub without_port: u64,
    /// Requests that are not in the raw log.
    pub unlogged: u64,
}

impl Health<'_> {
    /// Why the generator was the bottleneck, where it was.
    pub fn bottleneck(&self) -> Option<String> {
        let p99 = self.lag.quantile(0.99).unwrap_or_default();
        let late = (p99 > P99_AT_MOST).then(|| {
            format!(
                "it set about requests {:.1} ms late at the 99th percentile (at most {:.0} ms)",
                p99 as f64 / 1e3,
                P99_AT_MOST as f64 / 1e3
            )
        });
        let busy = (self.busiest > BUSY_AT_MOST).then(|| {
            format!(
                "a worker used {:.0} % of a core (at most {:.0} %): give it more workers",
                self.busiest * 100.0,
                BUSY_AT_MOST * 100.0
            )
        });
        let without_port = (self.without_port > 0).then(|| {
            format!(
                "for {} requests there was no port or open file left on this machine",
                self.without_port
            )
        });
        let unlogged = (self.unlogged > 0).then(|| {
            format!(
                "{} requests are not in the raw log: the disk did not keep up",
                self.unlogged
            )
        });
        let reasons = [late, busy, without_port, unlogged];
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// How many cores this process may use.
pub fn cores() -> u32 {
    let cores = available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use super::*;

    fn lag(micros: u64) -> Distribution {
        repeat_n(micros, 100).collect()
    }

    fn health(lag: &Distribution) -> Health<'_> {
        Health {
            lag,
            busiest: 0.5,
            without_port: 0,
            unlogged: 0,
        }
    }

    #[test]
    fn one_that_kept_up_is_no_bottleneck() {
        assert_eq!(health(&Distribution::default()).bottleneck(), None);
        assert_eq!(health(&lag(15_000)).bottleneck(), None);
    }

    #[test]
    fn every_lack_is_said_in_words() {
        let lag = lag(25_000);
        let health = Health {
            busiest: 0.98,
            without_port: 3,
            unlogged: 1024,
            ..health(&lag)
        };
        let words = health.bottleneck().unwrap().replace("; ", "\n");
        insta::assert_snapshot!(words, @r"
        it set about requests 25.0 ms late at the 99th percentile (at most 20 ms)
        a worker used 98 % of a core (at most 95 %): give it more workers
        for 3 requests there was no port or open file left on this machine
        1024 requests are not in the raw log: the disk did not keep up
        ");
    }
}
