//! How busy a worker's thread is.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

/// A thread that was busy for more than this share of its time is full.
const FULL: f64 = 0.9;
/// The share is measured over at least this long.
const WINDOW: Duration = Duration::from_millis(1);

/// Measures how busy the thread of the current runtime is.
pub struct Busy {
    since: Instant,
    busy: Duration,
    is_full: bool,
    /// The thread's total busy time.
    total: fn() -> Duration,
}

impl Busy {
    /// Starts to measure, by the runtime's metrics.
    pub fn from_now() -> Busy {
        Busy::by(|| Handle::current().metrics().worker_total_busy_duration(0))
    }

    /// Starts to measure, by `total`: the runtime's metrics ignore the paused clock of a test.
    pub fn by(total: fn() -> Duration) -> Busy {
        Busy {
            since: Instant::now(),
            busy: total(),
            is_full: false,
            total,
        }
    }

    /// Returns whether the thread was full since the last call, or a moment before.
    pub fn is_full(&mut self) -> bool {
        let elapsed = self.since.elapsed();
        if elapsed >= WINDOW {
            let busy = (self.total)().saturating_sub(self.busy);
            self.is_full = busy.as_secs_f64() > FULL * elapsed.as_secs_f64();
            self.since += elapsed;
            self.busy += busy;
        }
        self.is_full
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_works_is_full_and_one_that_waits_is_not() {
        let mut busy = Busy::from_now();
        assert!(!busy.is_full());
        std::thread::sleep(Duration::from_millis(100));
        // The runtime updates its metrics at the end of each turn of its loop.
        yield_now().await;
        assert!(busy.is_full());
        assert!(busy.is_full(), "until there is a new measurement");
        sleep(Duration::from_millis(100)).await;
        assert!(!busy.is_full());
    }
}
