//! A monotonic clock with Unix time, and how far another machine's clock differs.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Reads the system's clock once. Later corrections of it have no effect.
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

/// Returns the duration in whole microseconds, at most [`u64::MAX`].
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the CPU time of the calling thread, in seconds; 0 if the system does not report it.
pub fn cpu_of_this_thread() -> f64 {
    cpu(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns the CPU time of this process, in seconds; 0 if the system does not report it.
pub fn cpu_of_this_process() -> f64 {
    cpu(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn cpu(clock: ClockId) -> f64 {
    let used = clock_gettime(clock).map(Duration::from);
    used.unwrap_or_default().as_secs_f64()
}

/// How far another machine's clock is ahead of this one's, as bounds in microseconds; negative
/// if it is behind.
///
/// A message has the time at which it was sent, by the other clock. By this clock, that was after
/// some local event and before it was received, which bounds the difference. Each message narrows
/// the bounds, as in D. L. Mills, "Internet time synchronization: the network time protocol", IEEE
/// Transactions on Communications 39 (1991).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockDifference {
    /// The lower bound.
    pub least: i64,
    /// The upper bound.
    pub most: i64,
}

impl ClockDifference {
    /// Returns the bounds from a message that was `sent` at this time by the other clock, and
    /// between the other two times by this clock. All are microseconds since the Unix epoch.
    pub fn of(sent: u64, not_before: u64, received: u64) -> ClockDifference {
        ClockDifference {
            least: ahead(sent, received),
            most: ahead(sent, not_before),
        }
    }

    /// Returns the bounds that satisfy both.
    #[must_use]
    pub fn and(self, other: ClockDifference) -> ClockDifference {
        ClockDifference {
            least: self.least.max(other.least),
            most: self.most.min(other.most),
        }
    }

    /// Whether the clocks may be equal.
    pub fn may_be_zero(self) -> bool {
        self.least <= 0 && self.most >= 0
    }
}

fn ahead(one: u64, other: u64) -> i64 {
    let ahead = i128::from(one) - i128::from(other);
    i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for ClockDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, most] = [self.least, self.most].map(|it| it as f64 / 1000.0);
        write!(
            f,
            "its clock is {least:.0} to {most:.0} ms ahead of this machine's"
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_difference_is_within_the_bounds(
            ahead in -10_000_000..10_000_000i64,
            messages in proptest::collection::vec((0..5_000_000u64, 0..5_000_000u64), 1..5),
        ) {
            let started = 1_764_113_612_000_000u64;
            let bounds = messages.into_iter().map(|(after, delay)| {
                let sent = started + after;
                ClockDifference::of(sent.strict_add_signed(ahead), started, sent + delay)
            });
            let all = bounds.reduce(ClockDifference::and).unwrap();
            prop_assert!(all.least <= ahead && ahead <= all.most, "{all:?}");
            if ahead == 0 {
                prop_assert!(all.may_be_zero());
            }
        }
    }

    #[test]
    fn clocks_that_differ_are_detected() {
        let off = ClockDifference::of(2_500_000, 1_000_000, 1_900_000);
        assert_eq!(
            off.to_string(),
            "its clock is 600 to 1500 ms ahead of this machine's"
        );
        assert!(!off.may_be_zero());
        assert!(ClockDifference::of(1_500_000, 1_000_000, 1_900_000).may_be_zero());
    }
}
