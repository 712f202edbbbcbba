//! Whether a worker's thread has time to spare.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

/// A thread that was busy for more than this share of its time has none to spare.
const FULL: f64 = 0.9;
/// Over so long at the least.
const WINDOW: Duration = Duration::from_millis(1);

/// How busy the thread was lately whose runtime this is asked on.
pub struct Busy {
    since: Instant,
    busy: Duration,
    is_full: bool,
    /// How long the thread has been busy in all.
    total: fn() -> Duration,
}

impl Busy {
    /// From now on, as the runtime counts.
    pub fn from_now() -> Busy {
        Busy::by(|| Handle::current().metrics().worker_total_busy_duration(0))
    }

    /// From now on, as is told: the runtime counts by the machine's clock, also where all else
    /// goes by one that a test has in its hand.
    pub fn by(total: fn() -> Duration) -> Busy {
        Busy {
            since: Instant::now(),
            busy: total(),
            is_full: false,
            total,
        }
    }

    /// Whether it had no time to spare since it was last asked, or a moment before.
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
    async fn a_thread_that_works_has_no_time_and_one_that_waits_has() {
        let mut busy = Busy::from_now();
        assert!(!busy.is_full());
        std::thread::sleep(Duration::from_millis(100));
        // The runtime counts when a turn of its loop ends.
        yield_now().await;
        assert!(busy.is_full());
        assert!(busy.is_full(), "until there is something new to see");
        sleep(Duration::from_millis(100)).await;
        assert!(!busy.is_full());
    }
}
