//! The checks before a release. Nothing has been changed when one fails.

mod headroom;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ResourceQuota, Service};
use kube::ResourceExt;
use kube::api::ListParams;

use super::colour::{Colour, TRACK};
use super::error::BlueGreenError;
use super::objects::{BothColours, ColourStatus, ServiceObjects, selector_of, selector_text};
use super::policy::Evidence;
use super::{Deployer, ProbeFrom, prometheus};

/// The timeout of Prometheus' answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Checks that a version is valid as an image tag and as a label.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
pub(super) fn version(version: &str) -> Result<(), BlueGreenError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: char| c.is_ascii_alphanumeric();
    let reason = if version == "latest" {
        "it can be another image tomorrow"
    } else if version.len() > 63 {
        "it is longer than a label's value may be"
    } else if version.chars().all(inner) && version.starts_with(outer) && version.ends_with(outer) {
        return Ok(());
    } else {
        "a label's value must not have these characters there"
    };
    Err(BlueGreenError::Version {
        version: version.to_owned(),
        reason,
    })
}

/// Returns the number of pods of the new colour: as many as the live one has, or should have.
pub(super) async fn replicas(
    objects: &ServiceObjects<'_>,
    live: &ColourStatus,
) -> Result<i32, BlueGreenError> {
    let autoscaler = objects.autoscaler(live.colour).await?;
    let autoscaled = autoscaler.and_then(|it| Some(it.status?.desired_replicas));
    Ok(live.pods().max(autoscaled.unwrap_or(0)))
}

/// Checks the service's objects.
pub(super) async fn check(
    objects: &ServiceObjects<'_>,
    colours: &BothColours,
    replicas: i32,
) -> Result<(), BlueGreenError> {
    selectors(objects, colours)?;
    overlaps(objects, colours).await?;
    let container = objects.container(&colours.idle.deployment)?;
    if container.readiness_probe.is_none() {
        let name = objects.deployment(colours.idle.colour);
        return Err(BlueGreenError::preflight(
            format!("{name} has no readiness probe: nothing shows when its pods may get traffic"),
            "give its container one",
        ));
    }
    live_is_healthy(objects, &colours.live)?;
    idle_is_idle(objects, &colours.idle)?;
    quota(objects, &colours.idle, replicas).await
}

/// Checks that the evidence of the analysis is available.
pub(super) async fn evidence(
    deployer: &Deployer<'_>,
    analysis: Evidence,
    live: Colour,
) -> Result<(), BlueGreenError> {
    match (analysis, &deployer.policy.prometheus, deployer.probe_from) {
        (Evidence::Probe, ..) if deployer.smoke.is_empty() => Err(BlueGreenError::preflight(
            "analysis is \"probe\", and the service has no `smoke` paths",
            "add `smoke` paths for the service in harness.toml, or set analysis = \"none\"",
        )),
        (Evidence::Probe, _, ProbeFrom::Nowhere) => Err(BlueGreenError::preflight(
            "analysis is \"probe\", and there is no image for the prober's pod",
            "set `prober_image` of the target in harness.toml to one that its nodes have or can pull (`cargo xtask images build prober` builds it), or set another analysis",
        )),
        (Evidence::Prometheus, Some(prometheus), _) => {
            let objects = deployer.objects();
            let counters = prometheus::counters(prometheus, &objects, live, TIMEOUT).await;
            counters.map(drop).map_err(|why| {
                let (namespace, service) = (&prometheus.namespace, &prometheus.service);
                BlueGreenError::preflight(
                    why,
                    format!("[blue_green.prometheus] of harness.toml has the queries to Service {service} in {namespace}: check that it exists, that you have permission to get its services/proxy, and that the query is right"),
                )
            })
        }
        _ => Ok(()),
    }
}

/// Checks that neither Deployment selects the other's pods.
fn selectors(objects: &ServiceObjects<'_>, colours: &BothColours) -> Result<(), BlueGreenError> {
    for (one, other) in [
        (&colours.live, &colours.idle),
        (&colours.idle, &colours.live),
    ] {
        let selector = one.deployment.spec.selector.match_labels.clone();
        if selects(&selector.unwrap_or_default(), &labels(other)) {
            return Err(BlueGreenError::preflight(
                format!(
                    "Deployment {} also selects the pods of {}",
                    objects.deployment(one.colour),
                    other.colour
                ),
                format!("its selector must name {TRACK}={}", one.colour),
            ));
        }
    }
    Ok(())
}

/// Checks that no Service except the preview sends traffic to the idle colour.
async fn overlaps(
    objects: &ServiceObjects<'_>,
    colours: &BothColours,
) -> Result<(), BlueGreenError> {
    let services: Vec<Service> = objects.list(&ListParams::default()).await?;
    let preview = objects.preview();
    let idle = colours.idle.colour;
    let shown = services.iter().find(|it| it.name_any() == preview);
    let Some(shown) = shown.map(selector_of) else {
        return Err(BlueGreenError::preflight(
            format!("there is no Service {preview}"),
            "deploy the chart again: it creates it",
        ));
    };
    let pods = labels(&colours.idle);
    if !selects(&shown, &pods) {
        let selector = selector_text(&shown);
        return Err(BlueGreenError::preflight(
            format!("{preview} selects {selector:?}, and so not the pods of {idle}"),
            "somebody has edited it: deploy the chart again",
        ));
    }
    let mut others = services.iter().filter(|it| it.name_any() != preview);
    let Some(also) = others.find(|it| selects(&selector_of(it), &pods)) else {
        return Ok(());
    };
    let (name, selector) = (also.name_any(), selector_text(&selector_of(also)));
    Err(BlueGreenError::preflight(
        format!(
            "Service {name} also selects the pods of {idle}: it would send traffic to them before the switch"
        ),
        format!("its selector, {selector:?}, must name one {TRACK}"),
    ))
}

fn live_is_healthy(
    objects: &ServiceObjects<'_>,
    live: &ColourStatus,
) -> Result<(), BlueGreenError> {
    let (colour, ready, wanted) = (live.colour, live.ready, live.wanted);
    if wanted == 0 {
        let name = objects.deployment(colour);
        let scale = objects.kubectl(&format!("scale deployment/{name} --replicas=2"));
        return Err(BlueGreenError::preflight(
            format!(
                "the live colour, {colour}, is scaled to 0: there is nothing to release beside"
            ),
            format!("`{scale}`"),
        ));
    }
    if ready >= wanted {
        return Ok(());
    }
    let selector = objects.selector(colour);
    let get = objects.kubectl(&format!("get pods --selector {selector}"));
    Err(BlueGreenError::preflight(
        format!("the live colour, {colour}, is not healthy: {ready} of {wanted} pods are ready"),
        format!("a new version cannot be compared with an unhealthy one: repair it first; `{get}`"),
    ))
}

fn idle_is_idle(objects: &ServiceObjects<'_>, idle: &ColourStatus) -> Result<(), BlueGreenError> {
    match idle.pods() {
        0 => Ok(()),
        pods => Err(BlueGreenError::preflight(
            format!(
                "both colours run: {} has {pods} pods, and no release is in progress",
                idle.colour
            ),
            format!(
                "`cargo xtask blue-green abort --service {}` scales it to 0",
                objects.service
            ),
        )),
    }
}

async fn quota(
    objects: &ServiceObjects<'_>,
    idle: &ColourStatus,
    pods: i32,
) -> Result<(), BlueGreenError> {
    let quotas: Vec<ResourceQuota> = objects.list(&ListParams::default()).await?;
    let lacking = headroom::lacking(&quotas, &idle.deployment, pods).join("; ");
    match lacking.is_empty() {
        true => Ok(()),
        false => Err(BlueGreenError::preflight(
            format!("there is no room for a second colour: {lacking}"),
            "raise the quota, or scale the live colour down first",
        )),
    }
}

fn labels(status: &ColourStatus) -> BTreeMap<String, String> {
    let metadata = status.deployment.spec.template.metadata.as_ref();
    metadata
        .and_then(|it| it.labels.clone())
        .unwrap_or_default()
}

/// Whether a selector selects objects with these labels. A Service without a selector selects
/// nothing.
fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    let mut pairs = selector.iter();
    !selector.is_empty() && pairs.all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_version_is_a_tag_and_a_label() {
        for good in ["v2.2.0", "main-1a2b3c4", "1", "A_b.c"] {
            assert!(version(good).is_ok(), "{good}");
        }
        let long = "v".repeat(64);
        for bad in ["", "latest", "-v1", "v1.", "v1+2", "a b", long.as_str()] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_good_version_is_read_back_from_an_image(given in "[a-zA-Z0-9._+/:-]{0,70}") {
            if version(&given).is_ok() {
                let image = format!("host:5000/trii/x:{given}");
                let (_, tag) = super::super::objects::tag(&image).unwrap();
                prop_assert_eq!(tag, given);
            }
        }
    }

    #[test]
    fn a_service_without_a_selector_selects_nothing() {
        let pods = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert!(!selects(&BTreeMap::new(), &pods));
        assert!(selects(&pods, &pods));
    }
}
