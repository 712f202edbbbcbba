//! Time that never goes back, told as the Unix epoch's.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Set once: a correction of the machine's clock meanwhile moves no answer.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Duration,
    at: Instant,
}

impl Clock {
    pub fn set() -> Clock {
        Clock {
            epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            at: Instant::now(),
        }
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.at);
        micros(self.epoch + since)
    }
}

/// Whole microseconds; [`u64::MAX`] where there are more.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What the calling thread has used, in seconds; 0 where the system does not tell.
pub fn cpu_of_this_thread() -> f64 {
    cpu(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// What this process has used, in seconds; 0 where the system does not tell.
pub fn cpu_of_this_process() -> f64 {
    cpu(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn cpu(clock: ClockId) -> f64 {
    let used = clock_gettime(clock).map(Duration::from);
    used.unwrap_or_default().as_secs_f64()
}
