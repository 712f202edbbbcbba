//! Waiting for something to become true, with a deadline.
//!
//! A wait watches a state from outside. Where the thing itself can tell (a child's
//! exit, a channel), await that instead: it is exact and costs nothing.

use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};

/// What one look at the awaited state found.
pub enum Observation<T> {
    /// It is so.
    Ready(T),
    /// Not yet; what was seen instead, for the error if time runs out.
    NotYet(String),
    /// It never will be; why.
    Hopeless(String),
}

/// A wait that ended without what it waited for.
#[derive(Debug, Error, Diagnostic)]
pub enum WaitError {
    /// The deadline passed.
    #[error("{what}: not within {deadline:?}; last seen: {last}")]
    TimedOut {
        /// What was waited for, as a claim.
        what: String,
        /// The time allowed.
        deadline: Duration,
        /// The last state seen.
        last: String,
    },
    /// Waiting longer could not have helped.
    #[error("{what}: it never will be: {reason}")]
    Hopeless {
        /// What was waited for, as a claim.
        what: String,
        /// The terminal state seen.
        reason: String,
    },
}

/// Looks every `pause` until `observe` says ready or hopeless, at most for `deadline`.
///
/// A look that itself takes longer than what is left is cut off.
pub async fn until<T>(
    what: impl Into<String>,
    deadline: Duration,
    pause: Duration,
    mut observe: impl AsyncFnMut() -> Observation<T>,
) -> Result<T, WaitError> {
    let what = what.into();
    let end = Instant::now() + deadline;
    let mut last = "nothing: the first look did not end".to_owned();
    loop {
        match timeout_at(end, observe()).await {
            Ok(Observation::Ready(value)) => return Ok(value),
            Ok(Observation::Hopeless(reason)) => {
                return Err(WaitError::Hopeless { what, reason });
            }
            Ok(Observation::NotYet(seen)) => last = seen,
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
    async fn ends_as_soon_as_the_state_is_seen() {
        let mut looks = 0;
        let seen = until("third time lucky", DEADLINE, PAUSE, async || {
            looks += 1;
            match looks {
                3 => Observation::Ready(looks),
                _ => Observation::NotYet(format!("look {looks}")),
            }
        });
        assert_eq!(seen.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_carries_the_last_state_seen() {
        let error = until::<()>("it is up", DEADLINE, PAUSE, async || {
            Observation::NotYet("503".into())
        });
        let error = error.await.unwrap_err().to_string();
        assert_eq!(error, "it is up: not within 10s; last seen: 503");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_once_on_a_terminal_state() {
        let start = Instant::now();
        let error = until::<()>("it is up", DEADLINE, PAUSE, async || {
            Observation::Hopeless("exited with 1".into())
        });
        assert!(matches!(error.await, Err(WaitError::Hopeless { .. })));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_cut_off_at_the_deadline() {
        let start = Instant::now();
        let error = until::<()>("it answers", DEADLINE, PAUSE, async || {
            std::future::pending::<Observation<()>>().await
        });
        assert!(matches!(error.await, Err(WaitError::TimedOut { .. })));
        assert_eq!(start.elapsed(), DEADLINE);
    }
}
