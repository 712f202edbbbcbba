//! Whether the load generator was the bottleneck. A result then does not describe the target.

use std::time::{Duration, Instant};

use prober::cpu_of_this_process;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::open::cores;
use crate::result::{Distribution, Generator, count, growing};

/// How often an otherwise idle task measures how late it is.
const PULSE: Duration = Duration::from_millis(10);

/// The most lag at [`LAG_QUANTILE`]. Users wait for each other as long: with more lag the measured
/// times are not those of the target.
const MOST_LAG: Duration = Duration::from_millis(50);
const LAG_QUANTILE: f64 = 0.95;

/// The largest share of all cores that leaves some unused.
const MOST_USED: f64 = 0.95;

/// Measures the generator while it runs.
pub(super) struct GeneratorWatch {
    begun: Instant,
    /// CPU time at the start, in seconds.
    used: f64,
    stop: CancellationToken,
    pulse: AbortOnDropHandle<Distribution>,
}

impl GeneratorWatch {
    pub(super) fn begin() -> GeneratorWatch {
        let stop = CancellationToken::new();
        let pulse = tokio::spawn(pulse(stop.clone()));
        GeneratorWatch {
            begun: Instant::now(),
            used: cpu_of_this_process(),
            stop,
            pulse: AbortOnDropHandle::new(pulse),
        }
    }

    pub(super) async fn end(self) -> Generator {
        let wall = self.begun.elapsed();
        let used = cpu_of_this_process() - self.used;
        self.stop.cancel();
        // The task returns immediately, and cannot panic.
        let lag = self.pulse.await.unwrap_or_default();
        let cores = cores();
        let cores_used = used / wall.as_secs_f64().max(f64::MIN_POSITIVE);
        Generator {
            cores_used,
            cores,
            bottleneck: bottleneck(&lag, cores_used, cores),
            lag,
        }
    }
}

/// Measures how late each pulse is, until it is stopped.
async fn pulse(stop: CancellationToken) -> Distribution {
    let mut lag = growing::<u32>();
    let mut ticks = interval(PULSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = tokio::select! {
            due = ticks.tick() => due,
            () = stop.cancelled() => return lag.into(),
        };
        count(&mut lag, due.elapsed());
    }
}

fn bottleneck(lag: &Distribution, cores_used: f64, cores: u32) -> Option<String> {
    let late = lag.quantile(LAG_QUANTILE).map(Duration::from_micros);
    if let Some(late) = late.filter(|late| *late > MOST_LAG) {
        let millis = late.as_millis();
        return Some(format!(
            "its users were up to {millis} ms late in 95 of 100 measurements: the machine is too busy"
        ));
    }
    (cores_used > MOST_USED * f64::from(cores))
        .then(|| format!("it used {cores_used:.1} of {cores} cores, which is all of them"))
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use super::*;

    fn lags(micros: u64) -> Distribution {
        repeat_n(micros, 100).collect()
    }

    #[test]
    fn a_generator_with_late_users_or_without_a_free_core_is_the_bottleneck() {
        assert_eq!(bottleneck(&lags(1_000), 0.4, 2), None);
        assert_eq!(bottleneck(&Distribution::default(), 0.0, 2), None);
        let late = bottleneck(&lags(80_000), 0.4, 2).unwrap();
        assert!(late.contains("80 ms"), "{late}");
        let busy = bottleneck(&lags(1_000), 1.95, 2).unwrap();
        assert!(busy.contains("of 2 cores"), "{busy}");
    }

    #[tokio::test]
    async fn used_processor_time_is_measured() {
        let watch = GeneratorWatch::begin();
        let begun = Instant::now();
        while cpu_of_this_process() - watch.used < 0.05 {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::hint::black_box((0..10_000).sum::<u64>());
        }
        let generator = watch.end().await;
        assert!(generator.cores_used > 0.0, "{generator:?}");
    }
}
