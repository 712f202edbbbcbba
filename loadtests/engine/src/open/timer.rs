//! A timer that is more precise than a millisecond, if the operating system has one.

use tokio::time::{Instant, sleep_until};

/// A timer. The timer of tokio has a resolution of a millisecond, which would be lag.
pub enum Timer {
    /// A kernel timer (timerfd_create(2)), precise to some ten microseconds.
    #[cfg(target_os = "linux")]
    Fine(fine::TimerFd),
    /// tokio's timer, which a test can control.
    Coarse,
}

impl Timer {
    /// Returns the most precise timer of the operating system.
    pub fn finest() -> Timer {
        #[cfg(target_os = "linux")]
        if let Ok(timer) = fine::TimerFd::new() {
            return Timer::Fine(timer);
        }
        Timer::Coarse
    }

    /// Waits until `at`, or a little longer.
    pub async fn until(&self, at: Instant) {
        match self {
            #[cfg(target_os = "linux")]
            Timer::Fine(timer) => {
                if timer.until(at).await.is_err() {
                    sleep_until(at).await;
                }
            }
            Timer::Coarse => sleep_until(at).await,
        }
    }
}

#[cfg(target_os = "linux")]
mod fine {
    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;
    use tokio::time::Instant;

    pub struct TimerFd(AsyncFd<OwnedFd>);

    impl TimerFd {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the file is owned here, and never another"
        )]
        pub fn new() -> io::Result<TimerFd> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(TimerFd(AsyncFd::new(timer)?))
        }

        pub async fn until(&self, at: Instant) -> io::Result<()> {
            // The timer may report that it was ready for an earlier time.
            loop {
                let remaining = at.saturating_duration_since(Instant::now());
                if remaining.is_zero() {
                    return Ok(());
                }
                let once = Itimerspec {
                    it_interval: Timespec::default(),
                    it_value: remaining.try_into().map_err(io::Error::other)?,
                };
                timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
                // The timer need not be read: setting it resets it.
                self.0.readable().await?.clear_ready();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_timer_is_never_early() {
        let timer = Timer::finest();
        for micros in [0, 1, 50, 300, 2000] {
            let at = Instant::now() + Duration::from_micros(micros);
            timer.until(at).await;
            assert!(Instant::now() >= at, "{micros}");
        }
    }
}
