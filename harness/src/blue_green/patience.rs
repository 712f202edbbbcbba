//! An API server that is away for a while is waited for.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::cluster::ClusterError;

/// It restarts within seconds; a release that is half done is worth a minute.
const ABSENCE: Duration = Duration::from_secs(60);

/// For one answer; it is milliseconds where all is well.
const ANSWER: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(250);

/// Asks until the API server answers, for a minute at most. `what` goes on from `to`.
///
/// # Errors
/// What it said; [`ClusterError::Silent`] where it says nothing for so long.
pub(super) async fn patiently<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, kube::Error>,
) -> Result<T, ClusterError> {
    let end = Instant::now() + ABSENCE;
    loop {
        let error = match timeout(ANSWER, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => ClusterError::of(what, error),
            Err(_) => ClusterError::Silent {
                what: what.to_owned(),
                reason: format!("no answer within {ANSWER:?}"),
            },
        };
        if !error.may_pass() || Instant::now() + PAUSE >= end {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
}
