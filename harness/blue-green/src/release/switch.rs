//! Waits until traffic has moved from one colour to the other.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::colour::Colour;
use crate::event::EventKind;
use crate::objects::ServiceObjects;
use crate::step_error::StepError;
use base::run::millis;
use kubernetes::ClusterError;

/// How long the controllers of EndpointSlices and Endpoints may take; it is usually milliseconds.
const TIMEOUT: Duration = Duration::from_secs(30);
const READ_EVERY: Duration = Duration::from_millis(50);

/// Waits until the EndpointSlices of a Service have ready pods of `colour`, and none of the other.
/// `since` is when the change was requested. Time without an API server does not count.
///
/// # Errors
/// The API server's error, or the last state after the timeout.
pub async fn settled(
    objects: &ServiceObjects<'_>,
    service: &str,
    colour: Colour,
    since: Instant,
) -> Result<EventKind, StepError> {
    let read = async || objects.endpoints(service).await;
    let endpoints = until_of_one_colour(objects, service, colour, read).await?;
    Ok(EventKind::Settled {
        to: colour,
        endpoints,
        millis: millis(since.elapsed()),
    })
}

/// As [`settled`], of the API server's proxy: it must not answer with the other colour.
///
/// # Errors
/// As [`settled`].
pub async fn proxy_settled(
    objects: &ServiceObjects<'_>,
    service: &str,
    colour: Colour,
) -> Result<(), StepError> {
    let read = async || objects.proxied_endpoints(service).await;
    let settled = until_of_one_colour(objects, service, colour, read).await;
    settled.map(drop)
}

async fn until_of_one_colour(
    objects: &ServiceObjects<'_>,
    service: &str,
    colour: Colour,
    read: impl AsyncFn() -> Result<Vec<(String, bool)>, ClusterError>,
) -> Result<usize, StepError> {
    let prefix = format!("{}-", objects.deployment(colour));
    let mut end = Instant::now() + TIMEOUT;
    loop {
        let sent = Instant::now();
        let endpoints = read().await?;
        end += sent.elapsed();
        match ready_of_one_colour(&endpoints, &prefix) {
            Ok(ready) => return Ok(ready),
            Err(state) if Instant::now() >= end => {
                return Err(StepError::failed(format!(
                    "not only {colour} is behind {service} after {TIMEOUT:?}: {state}"
                )));
            }
            Err(_) => sleep(READ_EVERY).await,
        }
    }
}

/// Returns how many are ready if all are of one colour, else the state. The names of a Deployment's
/// pods begin with its name.
fn ready_of_one_colour(endpoints: &[(String, bool)], prefix: &str) -> Result<usize, String> {
    let others = endpoints.iter().filter(|(pod, _)| !pod.starts_with(prefix));
    let ready = endpoints.iter().filter(|(_, ready)| *ready).count();
    match (others.count(), ready) {
        (0, 1..) => Ok(ready),
        (others, _) => Err(format!("{ready} are ready, {others} of another colour")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_has_moved_when_only_ready_pods_of_the_colour_are_left() {
        let is_ready = |pods: &[(&str, bool)]| {
            let owned = pods
                .iter()
                .map(|(name, ready)| ((*name).to_owned(), *ready));
            ready_of_one_colour(&owned.collect::<Vec<_>>(), "x-green-").is_ok()
        };
        assert!(is_ready(&[("x-green-1", true), ("x-green-2", true)]));
        assert!(!is_ready(&[]), "a Service without pods has not switched");
        assert!(!is_ready(&[("x-green-1", false)]));
        assert!(!is_ready(&[("x-green-1", true), ("x-blue-1", true)]));
        assert!(!is_ready(&[("x-green-1", true), ("x-blue-1", false)]));
    }
}
