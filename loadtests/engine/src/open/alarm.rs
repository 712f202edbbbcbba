//! A timer for a series of waits, each with its deadline.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for one wait after the other. It is set again only when it fires, for the deadline of
/// the current wait, or if that is earlier than the one it is set for. Setting and cancelling a timer for each wait would cost more.
pub struct Alarm(Pin<Box<Sleep>>);

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm(Box::pin(sleep_until(Instant::now())))
    }
}

impl Alarm {
    /// Waits for `future` until `deadline`. Returns none if it times out. Taking the future by value would copy it, which costs more.
    pub async fn within<T>(
        &mut self,
        deadline: Instant,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        if deadline < self.0.deadline() {
            self.0.as_mut().reset(deadline);
        }
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            while self.0.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                self.0.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_deadline() {
        let mut alarm = Alarm::default();
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(alarm.within(begin + second, pin!(ready(1))).await, Some(1));
        let waited = alarm.within(begin + second * 2, pin!(sleep(second))).await;
        assert_eq!(waited, Some(()));
        // The second wait has the same deadline, which is over.
        for _ in 0..2 {
            let waited = alarm
                .within(begin + second * 3, pin!(pending::<()>()))
                .await;
            assert_eq!(waited, None);
            assert_eq!(begin.elapsed().as_secs(), 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_be_before_the_previous_one() {
        let mut alarm = Alarm::default();
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let long = pin!(sleep(second));
        assert_eq!(alarm.within(begin + second * 10, long).await, Some(()));
        let never = pin!(pending::<()>());
        assert_eq!(alarm.within(begin + second * 4, never).await, None);
        assert_eq!(begin.elapsed().as_secs(), 4);
    }
}
