//! An API server that is away for a while is waited for.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::error::BlueGreenError;
use super::lock::Lock;
use crate::cluster::ClusterError;

/// It restarts within seconds, its machine within a minute or so; a release that is half done is
/// worth twice that.
pub(super) const ABSENCE: Duration = Duration::from_secs(120);

/// For one answer; it is milliseconds where all is well.
const ANSWER: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(250);

/// Asks until the API server answers, for [`ABSENCE`] at most. `what` goes on from `to`.
///
/// # Errors
/// What it said; [`ClusterError::Silent`] where it says nothing for so long.
pub(super) async fn retrying<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, kube::Error>,
) -> Result<T, ClusterError> {
    let end = Instant::now() + ABSENCE;
    loop {
        match answer(what, ANSWER, ask()).await {
            Err(error) if may_be_asked_again(&error, end) => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

/// The same for a change. Each attempt follows a look at the lock: a deployer that was suspended
/// must not write over its successor's.
///
/// # Errors
/// As [`retrying`], and as [`Lock::ours`].
pub(super) async fn fenced<T>(
    lock: &Lock,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, kube::Error>,
) -> Result<T, BlueGreenError> {
    let end = Instant::now() + ABSENCE;
    loop {
        lock.ours().await?;
        match answer(what, lock.leeway(), ask()).await {
            Err(error) if may_be_asked_again(&error, end) => sleep(PAUSE).await,
            answer => return Ok(answer?),
        }
    }
}

async fn answer<T>(
    what: &str,
    within: Duration,
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ClusterError> {
    match timeout(within, asked).await {
        Ok(answer) => answer.map_err(|error| ClusterError::of(what, error)),
        Err(_) => Err(ClusterError::Silent {
            what: what.to_owned(),
            reason: format!("no answer within {within:?}"),
        }),
    }
}

fn may_be_asked_again(error: &ClusterError, end: Instant) -> bool {
    error.may_pass() && Instant::now() + PAUSE < end
}
