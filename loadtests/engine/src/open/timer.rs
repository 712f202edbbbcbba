//! Waiting for a time, more finely than to the millisecond where the system can.

use tokio::time::{Instant, sleep_until};

/// Waits for a time. tokio's own timers go by milliseconds, each a millisecond of lag.
pub enum Timer {
    /// By one of the kernel's (timerfd_create(2)), to some ten microseconds.
    #[cfg(target_os = "linux")]
    Fine(fine::Alarm),
    /// By tokio's: also of a clock that a test has in its hand.
    Coarse,
}

impl Timer {
    /// The finest there is here.
    pub fn finest() -> Timer {
        #[cfg(target_os = "linux")]
        if let Ok(alarm) = fine::Alarm::new() {
            return Timer::Fine(alarm);
        }
        Timer::Coarse
    }

    /// Waits until it is `at`, or some moments later.
    pub async fn until(&self, at: Instant) {
        match self {
            #[cfg(target_os = "linux")]
            Timer::Fine(alarm) => {
                if alarm.until(at).await.is_err() {
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

    /// A timer of the kernel's.
    pub struct Alarm(AsyncFd<OwnedFd>);

    impl Alarm {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the file is owned here, and never another"
        )]
        pub fn new() -> io::Result<Alarm> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Alarm(AsyncFd::new(timer)?))
        }

        pub async fn until(&self, at: Instant) -> io::Result<()> {
            // What was ready for an earlier time is told here once more: hence the loop.
            loop {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                let once = Itimerspec {
                    it_interval: Timespec::default(),
                    it_value: left.try_into().map_err(io::Error::other)?,
                };
                timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
                // Setting it anew forgets that it rang: it need not be read.
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
    async fn it_is_never_early() {
        let timer = Timer::finest();
        for micros in [0, 1, 50, 300, 2000] {
            let at = Instant::now() + Duration::from_micros(micros);
            timer.until(at).await;
            assert!(Instant::now() >= at, "{micros}");
        }
    }
}
