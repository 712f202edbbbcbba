//! Retries requests while the API server is away.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use kubernetes::ClusterError;

/// How long requests are retried. An API server restarts within seconds, and its machine within
/// about a minute. An unfinished release is worth twice that.
pub(super) const RETRIED_FOR: Duration = Duration::from_secs(120);

/// The timeout of one answer, which usually takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(250);

/// Sends a request until the API server answers, for [`RETRIED_FOR`] at most. `what` completes
/// "to ...".
///
/// # Errors
/// The API server's error; [`ClusterError::Silent`] if it does not answer.
pub(super) async fn retrying<T>(
    what: &str,
    mut send: impl AsyncFnMut() -> Result<T, kube::Error>,
) -> Result<T, ClusterError> {
    retrying_unless(what, TIMEOUT, async || Ok::<_, ClusterError>(()), &mut send).await
}

/// As [`retrying`], with `timeout` for each answer, and with `check` before each attempt.
///
/// # Errors
/// As [`retrying`], and the error of `check`.
pub(super) async fn retrying_unless<T, E: From<ClusterError>>(
    what: &str,
    timeout: Duration,
    mut check: impl AsyncFnMut() -> Result<(), E>,
    mut send: impl AsyncFnMut() -> Result<T, kube::Error>,
) -> Result<T, E> {
    let end = Instant::now() + RETRIED_FOR;
    loop {
        check().await?;
        match answer(what, timeout, send()).await {
            Err(error) if error.may_pass() && Instant::now() + PAUSE < end => sleep(PAUSE).await,
            answer => return Ok(answer?),
        }
    }
}

/// Waits for one answer.
///
/// # Errors
/// As [`retrying`].
pub(super) async fn answer<T>(
    what: &str,
    within: Duration,
    sent: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ClusterError> {
    match timeout(within, sent).await {
        Ok(answer) => answer.map_err(|error| ClusterError::of(what, error)),
        Err(_) => Err(ClusterError::Silent {
            what: what.to_owned(),
            reason: format!("no answer within {within:?}"),
        }),
    }
}
