//! Whether the load generator itself was the bottleneck, which invalidates its measurements.

use std::thread::available_parallelism;

use crate::result::Distribution;

/// The highest lag at the 99th percentile, in microseconds. With a higher lag, at 200 requests/s,
/// every fourth request would coincide with others.
const P99_AT_MOST: u64 = 20_000;

/// A worker that was busy for a larger share of its time could not be on time.
const BUSY_AT_MOST: f64 = 0.95;

/// Returns why the generator was the bottleneck, if it was. `busiest` is the share of a core, 0 to
/// 1, that the busiest worker used. Arrivals are `without_port` also if there was no file.
pub fn bottleneck(
    lag: &Distribution,
    busiest: f64,
    without_port: u64,
    unlogged: u64,
) -> Option<String> {
    let mut reasons = Vec::new();
    let p99 = lag.quantile(0.99).unwrap_or_default();
    if p99 > P99_AT_MOST {
        reasons.push(format!(
            "it started requests {:.1} ms late at the 99th percentile (at most {:.0} ms)",
            p99 as f64 / 1e3,
            P99_AT_MOST as f64 / 1e3
        ));
    }
    if busiest > BUSY_AT_MOST {
        reasons.push(format!(
            "a worker used {:.0} % of a core (at most {:.0} %): give it more workers",
            busiest * 100.0,
            BUSY_AT_MOST * 100.0
        ));
    }
    if without_port > 0 {
        reasons.push(format!(
            "for {without_port} requests there was no port or open file left on this machine"
        ));
    }
    if unlogged > 0 {
        reasons.push(format!(
            "{unlogged} requests are not in the raw log: the disk did not keep up"
        ));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Returns how many cores this process may use.
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

    #[test]
    fn a_generator_that_keeps_up_is_no_bottleneck() {
        assert_eq!(bottleneck(&Distribution::default(), 0.5, 0, 0), None);
        assert_eq!(bottleneck(&lag(15_000), 0.5, 0, 0), None);
    }

    #[test]
    fn every_reason_is_reported() {
        let reasons = bottleneck(&lag(25_000), 0.98, 3, 1024).unwrap();
        insta::assert_snapshot!(reasons.replace("; ", "\n"), @r"
        it started requests 25.0 ms late at the 99th percentile (at most 20 ms)
        a worker used 98 % of a core (at most 95 %): give it more workers
        for 3 requests there was no port or open file left on this machine
        1024 requests are not in the raw log: the disk did not keep up
        ");
    }
}
