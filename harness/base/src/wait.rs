//! Waits for a condition by polling, with a deadline.
//!
//! If the source can notify (a child's exit, a channel), await that instead: it is exact and
//! cheaper.

use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};

/// The result of one poll.
pub enum Observation<T> {
    /// The condition is true.
    Ready(T),
    /// Not yet. The current state, for the error if the wait times out.
    NotYet(String),
    /// It cannot become true any more. The reason.
    Failed(String),
}

/// A wait that failed.
#[derive(Debug, Error, Diagnostic)]
pub enum WaitError {
    /// The deadline passed.
    #[error("{what}: not within {deadline:?}; last seen: {last}")]
    TimedOut {
        /// The condition.
        what: String,
        /// The time limit.
        deadline: Duration,
        /// The last state.
        last: String,
    },
    /// The condition cannot become true any more.
    #[error("{what}: gave up: {reason}")]
    Failed {
        /// The condition.
        what: String,
        /// The terminal state.
        reason: String,
    },
}

/// Polls `observe` every `pause`, until it is ready or failed, for at most `deadline`. A poll
/// that is still running at the deadline is cancelled.
pub async fn until<T>(
    what: impl Into<String>,
    deadline: Duration,
    pause: Duration,
    mut observe: impl AsyncFnMut() -> Observation<T>,
) -> Result<T, WaitError> {
    let what = what.into();
    let end = Instant::now() + deadline;
    let mut last = "nothing: the first poll did not finish".to_owned();
    loop {
        match timeout_at(end, observe()).await {
            Ok(Observation::Ready(value)) => return Ok(value),
            Ok(Observation::Failed(reason)) => {
                return Err(WaitError::Failed { what, reason });
            }
            Ok(Observation::NotYet(state)) => last = state,
            Err(_) => {}
        }
        if Instant::now() + pause >= end {
            return Err(WaitError::TimedOut {
                what,
                deadline,
                last,
            });
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);
    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn returns_as_soon_as_the_condition_is_true() {
        let mut polls = 0;
        let ready = until("the third poll is ready", DEADLINE, PAUSE, async || {
            polls += 1;
            match polls {
                3 => Observation::Ready(polls),
                _ => Observation::NotYet(format!("poll {polls}")),
            }
        });
        assert_eq!(ready.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_reports_the_last_state() {
        let error = until::<()>("it is up", DEADLINE, PAUSE, async || {
            Observation::NotYet("503".into())
        });
        let error = error.await.unwrap_err().to_string();
        assert_eq!(error, "it is up: not within 10s; last seen: 503");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_immediately_on_a_terminal_state() {
        let start = Instant::now();
        let error = until::<()>("it is up", DEADLINE, PAUSE, async || {
            Observation::Failed("exited with 1".into())
        });
        assert!(matches!(error.await, Err(WaitError::Failed { .. })));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_hangs_is_cancelled_at_the_deadline() {
        let start = Instant::now();
        let error = until::<()>("it answers", DEADLINE, PAUSE, async || {
            std::future::pending::<Observation<()>>().await
        });
        assert!(matches!(error.await, Err(WaitError::TimedOut { .. })));
        assert_eq!(start.elapsed(), DEADLINE);
    }
}
