//! A deadline for each of many waits, one after the other.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

/// Bounds one wait after the other. To set a timer for each, and take it away again, costs: this
/// one rings for a deadline that may be over, and only then is set to the one that counts.
pub struct Alarm(Pin<Box<Sleep>>);

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm(Box::pin(sleep_until(Instant::now())))
    }
}

impl Alarm {
    /// What `future` comes to, unless `deadline` comes before. A deadline is never before the
    /// last wait's. To take a future by value would copy it, which costs more than all this.
    pub async fn within<T>(
        &mut self,
        deadline: Instant,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
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
        let waits = pin!(sleep(second));
        let waits = alarm.within(begin + second * 2, waits).await;
        assert_eq!(waits, Some(()));
        let never = pin!(pending::<()>());
        let never = alarm.within(begin + second * 3, never).await;
        assert_eq!(never, None);
        assert_eq!(begin.elapsed().as_secs(), 3);
        let over = pin!(pending::<()>());
        let over = alarm.within(begin + second * 3, over).await;
        assert_eq!(over, None);
    }
}
