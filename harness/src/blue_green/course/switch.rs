//! Whether traffic has moved from one colour to the other.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::stop::Stop;
use crate::blue_green::colour::Colour;
use crate::blue_green::event::Happened;
use crate::blue_green::objects::Objects;
use crate::run::millis;

/// How long the EndpointSlice controller may take; it is milliseconds where all is well.
const SETTLING: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until the EndpointSlices of one of the Services hold ready pods of `colour`, and
/// none of the other. `since` is when that was asked for. For how long the API server is away
/// does not count.
///
/// # Errors
/// What the API server said, or what was seen last where it takes too long.
pub async fn settled(
    objects: &Objects<'_>,
    service: &str,
    colour: Colour,
    since: Instant,
) -> Result<Happened, Stop> {
    let prefix = format!("{}-", objects.deployment(colour));
    let mut end = Instant::now() + SETTLING;
    loop {
        let asked = Instant::now();
        let endpoints = objects.endpoints(service).await?;
        end += asked.elapsed();
        match judge(&endpoints, &prefix) {
            Ok(endpoints) => {
                return Ok(Happened::Settled {
                    to: colour,
                    endpoints,
                    millis: millis(since.elapsed()),
                });
            }
            Err(seen) if Instant::now() >= end => {
                return Err(Stop::failed(format!(
                    "not only {colour} is behind {service} after {SETTLING:?}: {seen}"
                )));
            }
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

/// How many are ready, where all are of one colour; else what there is. A Deployment's pods are
/// named after it.
fn judge(endpoints: &[(String, bool)], prefix: &str) -> Result<usize, String> {
    let others = endpoints.iter().filter(|(pod, _)| !pod.starts_with(prefix));
    let others = others.count();
    let ready = endpoints.iter().filter(|(_, ready)| *ready).count();
    match (others, ready) {
        (0, 1..) => Ok(ready),
        _ => Err(format!("{ready} are ready, {others} of another colour")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(names: &[(&str, bool)]) -> Vec<(String, bool)> {
        let owned = names
            .iter()
            .map(|(name, ready)| ((*name).to_owned(), *ready));
        owned.collect()
    }

    #[test]
    fn it_is_settled_when_only_ready_pods_of_the_colour_are_left() {
        let is_ready = |names: &[(&str, bool)]| judge(&pods(names), "x-green-").is_ok();
        assert!(is_ready(&[("x-green-1", true), ("x-green-2", true)]));
        assert!(!is_ready(&[]), "nobody behind it is no switch");
        assert!(!is_ready(&[("x-green-1", false)]));
        assert!(!is_ready(&[("x-green-1", true), ("x-blue-1", true)]));
        assert!(!is_ready(&[("x-green-1", true), ("x-blue-1", false)]));
    }
}
