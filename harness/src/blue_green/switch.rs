//! Traffic moved from one colour to the other, in one patch.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::Patch;
use serde_json::json;
use tokio::time::Instant;

use super::colour::{Colour, TRACK};
use super::error::BlueGreenError;
use super::event::Happened;
use super::objects::{Objects, as_deployer};
use super::patience::patiently;
use super::preflight::colour_of;
use crate::run::millis;
use crate::wait::{self, Observation, WaitError};

/// How long the EndpointSlice controller may take; it is milliseconds where all is well.
const SETTLING: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What became of a patch.
enum Patched {
    /// It was taken.
    Taken,
    /// The Service is another one by now.
    Conflict,
}

/// Has the active Service select `to` instead of `from`, if that is still what it does; of
/// whatever it selects, where `from` is none. A Service that somebody touches meanwhile is
/// looked at again: what matters is its colour.
///
/// # Errors
/// [`BlueGreenError::Meddled`] where it selects neither.
pub(super) async fn traffic(
    objects: &Objects<'_>,
    from: Option<Colour>,
    to: Colour,
) -> Result<Happened, BlueGreenError> {
    loop {
        let active = objects.active().await?;
        let sent = Timestamp::now();
        let happened = Happened::Patched { to, sent };
        match colour_of(&active) {
            // The answer to an earlier try may have been lost on its way.
            Some(colour) if colour == to => return Ok(happened),
            colour if from.is_none() || colour == from => {}
            _ => return Err(meddled(objects, &active)),
        }
        match patch(objects, &active, to).await? {
            Patched::Taken => return Ok(happened),
            Patched::Conflict => {}
        }
    }
}

async fn patch(
    objects: &Objects<'_>,
    service: &Service,
    to: Colour,
) -> Result<Patched, BlueGreenError> {
    let (api, name) = (objects.services(), service.name_any());
    let patch = Patch::Merge(json!({
        // The API server refuses it where the Service is another one by now.
        "metadata": {"resourceVersion": service.resource_version()},
        "spec": {"selector": {TRACK: to.name()}},
    }));
    let what = format!("have {name} select {to}");
    let patched = patiently(&what, async || {
        match api.patch(&name, &as_deployer(), &patch).await {
            Ok(_) => Ok(Patched::Taken),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Patched::Conflict),
            Err(error) => Err(error),
        }
    });
    Ok(patched.await?)
}

/// Has the preview Service select `to`.
pub(super) async fn preview(objects: &Objects<'_>, to: Colour) -> Result<(), BlueGreenError> {
    let (api, name) = (objects.services(), objects.preview());
    let patch = Patch::Merge(json!({"spec": {"selector": {TRACK: to.name()}}}));
    patiently(&format!("have {name} select {to}"), async || {
        api.patch(&name, &as_deployer(), &patch).await
    })
    .await?;
    Ok(())
}

/// Waits until the EndpointSlices of one of the Services hold ready pods of `colour`, and
/// none of the other. `since` is when that was asked for.
///
/// # Errors
/// That it took too long, or what the API server said.
pub(super) async fn settled(
    objects: &Objects<'_>,
    service: &str,
    colour: Colour,
    since: Instant,
) -> Result<Result<Happened, WaitError>, BlueGreenError> {
    let mut failed = None;
    let prefix = format!("{}-", objects.deployment(colour));
    let what = format!("only {colour} is behind {service}");
    let seen = wait::until(what, SETTLING, LOOK_EVERY, async || {
        match objects.endpoints(service).await {
            Ok(endpoints) => judge(&endpoints, &prefix),
            Err(error) => {
                let reason = error.to_string();
                failed = Some(error);
                Observation::Hopeless(reason)
            }
        }
    })
    .await;
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(seen.map(|endpoints| Happened::Settled {
        to: colour,
        endpoints,
        millis: millis(since.elapsed()),
    }))
}

/// A Deployment's pods are named after it.
fn judge(endpoints: &[(String, bool)], prefix: &str) -> Observation<usize> {
    let others = endpoints.iter().filter(|(pod, _)| !pod.starts_with(prefix));
    let others = others.count();
    let ready = endpoints.iter().filter(|(_, ready)| *ready).count();
    match (others, ready) {
        (0, 1..) => Observation::Ready(ready),
        _ => Observation::NotYet(format!("{ready} are ready, {others} of another colour")),
    }
}

/// What somebody made of the active Service.
pub(super) fn meddled(objects: &Objects<'_>, active: &Service) -> BlueGreenError {
    let selector = active.spec.as_ref().and_then(|it| it.selector.clone());
    let selector = super::objects::in_words(&selector.unwrap_or_default());
    let by = active.metadata.managed_fields.iter().flatten();
    let last = by.max_by_key(|it| it.time.clone());
    let by = last.and_then(|it| it.manager.clone());
    BlueGreenError::Meddled {
        what: format!(
            "the active Service {} was changed by {} meanwhile: it selects {selector:?}",
            objects.service,
            by.as_deref().unwrap_or("somebody")
        ),
        help: format!(
            "see why, then `cargo xtask blue-green deploy --service {0}` again, which goes on from what is live, or `cargo xtask blue-green abort --service {0}`",
            objects.service
        ),
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
        let is_ready = |names: &[(&str, bool)]| {
            matches!(judge(&pods(names), "x-green-"), Observation::Ready(_))
        };
        assert!(is_ready(&[("x-green-1", true), ("x-green-2", true)]));
        assert!(!is_ready(&[]), "nobody behind it is no switch");
        assert!(!is_ready(&[("x-green-1", false)]));
        assert!(!is_ready(&[("x-green-1", true), ("x-blue-1", true)]));
        assert!(!is_ready(&[("x-green-1", true), ("x-blue-1", false)]));
    }
}
