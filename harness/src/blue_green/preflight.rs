//! Whether a release may begin: nothing has been changed when it may not.

mod headroom;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::colour::{Colour, TRACK};
use super::error::BlueGreenError;
use super::objects::{Objects, Side, Sides, in_words, selector_of};
use super::policy::Evidence;
use super::retry::retrying;
use super::{Deployer, ProbeFrom, prometheus};

/// For Prometheus' answer, where nothing depends on it yet.
const ANSWER: Duration = Duration::from_secs(10);

/// A version that is a tag and a label, or why it is not.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
pub(super) fn version(version: &str) -> Result<(), BlueGreenError> {
    let no = |reason| {
        Err(BlueGreenError::Version {
            version: version.to_owned(),
            reason,
        })
    };
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if version == "latest" {
        return no("it is another image tomorrow");
    }
    if version.len() > 63 {
        return no("it is longer than a label's value may be");
    }
    match version.chars().all(inner)
        && outer(version.chars().next())
        && outer(version.chars().last())
    {
        true => Ok(()),
        false => no("it has characters that a label's value may not have there"),
    }
}

/// How many pods the new colour gets: no fewer than the live one has or is to have now.
pub(super) async fn replicas(objects: &Objects<'_>, live: &Side) -> Result<i32, BlueGreenError> {
    let autoscaler = objects.autoscaler(live.colour).await?;
    let autoscaled = autoscaler.and_then(|it| Some(it.status?.desired_replicas));
    let status = live.deployment.status.as_ref();
    let running = status.and_then(|it| it.replicas).unwrap_or(0);
    Ok(live.wanted.max(running).max(autoscaled.unwrap_or(0)))
}

/// Everything that must be so before anything is changed.
pub(super) async fn look(
    objects: &Objects<'_>,
    sides: &Sides,
    replicas: i32,
) -> Result<(), BlueGreenError> {
    selectors(objects, sides)?;
    overlaps(objects, sides).await?;
    let container = objects.container(&sides.idle.deployment)?;
    if container.readiness_probe.is_none() {
        let name = objects.deployment(sides.idle.colour);
        return Err(BlueGreenError::preflight(
            format!("{name} has no readiness probe: nothing tells when its pods may get traffic"),
            "give its container one",
        ));
    }
    live_is_well(objects, &sides.live)?;
    idle_is_idle(objects, &sides.idle)?;
    quota(objects, &sides.idle, replicas).await
}

/// What is to show whether the version holds can be had.
pub(super) async fn evidence(
    deployer: &Deployer<'_>,
    analysis: Evidence,
    live: Colour,
) -> Result<(), BlueGreenError> {
    match (analysis, &deployer.policy.prometheus, deployer.probe_from) {
        (Evidence::Probe, ..) if deployer.smoke.is_empty() => Err(BlueGreenError::preflight(
            "analysis is \"probe\", and there is nothing to ask",
            "give the service `smoke` paths in harness.toml, or have analysis = \"none\"",
        )),
        (Evidence::Probe, _, ProbeFrom::Nowhere) => Err(BlueGreenError::preflight(
            "analysis is \"probe\", and there is no image of the prober for a pod that asks",
            "set `prober_image` of the target in harness.toml to one that its nodes have or can pull (`cargo xtask images build prober` makes it), or have another analysis",
        )),
        (Evidence::Prometheus, Some(prometheus), _) => {
            let told = prometheus::counters(prometheus, &deployer.objects(), live, ANSWER).await;
            told.map(drop).map_err(|why| {
                let (namespace, service) = (&prometheus.namespace, &prometheus.service);
                BlueGreenError::preflight(
                    why,
                    format!("[blue_green.prometheus] of harness.toml says what is asked of Service {service} in {namespace}: see that it is there, that you may get services/proxy of it, and that the query is good"),
                )
            })
        }
        _ => Ok(()),
    }
}

/// Neither Deployment selects the other's pods.
fn selectors(objects: &Objects<'_>, sides: &Sides) -> Result<(), BlueGreenError> {
    for (one, other) in [(&sides.live, &sides.idle), (&sides.idle, &sides.live)] {
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

/// No Service but the preview sends traffic to the idle colour.
async fn overlaps(objects: &Objects<'_>, sides: &Sides) -> Result<(), BlueGreenError> {
    let api = objects.services();
    let all = ListParams::default();
    let services = retrying("list Services", async || api.list(&all).await).await?;
    let preview = objects.preview();
    let shown = services.iter().find(|it| it.name_any() == preview);
    let shown = shown.ok_or_else(|| {
        BlueGreenError::preflight(
            format!("there is no Service {preview}"),
            "deploy the chart again: it makes it",
        )
    })?;
    let pods = labels(&sides.idle);
    if !selects(&selector_of(shown), &pods) {
        return Err(BlueGreenError::preflight(
            format!(
                "{preview} selects {:?}, and so not the pods of {}",
                in_words(&selector_of(shown)),
                sides.idle.colour
            ),
            "somebody has changed it by hand: deploy the chart again",
        ));
    }
    let also = services
        .iter()
        .filter(|it| it.name_any() != preview)
        .find(|it| selects(&selector_of(it), &pods));
    match also {
        None => Ok(()),
        Some(also) => Err(BlueGreenError::preflight(
            format!(
                "Service {} also selects the pods of {}: it would send traffic to them before the switch",
                also.name_any(),
                sides.idle.colour
            ),
            format!(
                "its selector, {:?}, must name one {TRACK}",
                in_words(&selector_of(also))
            ),
        )),
    }
}

fn live_is_well(objects: &Objects<'_>, live: &Side) -> Result<(), BlueGreenError> {
    let name = objects.deployment(live.colour);
    if live.wanted == 0 {
        return Err(BlueGreenError::preflight(
            format!(
                "the live colour, {}, is scaled to 0: there is nothing to release beside",
                live.colour
            ),
            format!(
                "`{}`",
                objects.kubectl(&format!("scale deployment/{name} --replicas=2"))
            ),
        ));
    }
    match live.ready >= live.wanted {
        true => Ok(()),
        false => Err(BlueGreenError::preflight(
            format!(
                "the live colour, {}, is not well: {} of {} pods are ready",
                live.colour, live.ready, live.wanted
            ),
            format!(
                "a release that is not better than what is there cannot be told from it: mend it first; `{}`",
                objects.kubectl(&format!(
                    "get pods --selector {}",
                    objects.selector(live.colour)
                ))
            ),
        )),
    }
}

fn idle_is_idle(objects: &Objects<'_>, idle: &Side) -> Result<(), BlueGreenError> {
    let status = idle.deployment.status.as_ref();
    let running = status.and_then(|it| it.replicas).unwrap_or(0);
    match idle.wanted.max(running) {
        0 => Ok(()),
        pods => Err(BlueGreenError::preflight(
            format!(
                "both colours run: {} has {pods} pods, and no release is under way",
                idle.colour
            ),
            format!(
                "`cargo xtask blue-green abort --service {}` takes it to 0",
                objects.service
            ),
        )),
    }
}

async fn quota(objects: &Objects<'_>, idle: &Side, pods: i32) -> Result<(), BlueGreenError> {
    let cluster = objects.cluster;
    let api: Api<ResourceQuota> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
    let all = ListParams::default();
    let quotas = retrying("list ResourceQuotas", async || api.list(&all).await).await?;
    let lacking = headroom::lacking(&quotas.items, &idle.deployment, pods);
    match lacking.as_slice() {
        [] => Ok(()),
        lacking => Err(BlueGreenError::preflight(
            format!(
                "there is no room for a second colour: {}",
                lacking.join("; ")
            ),
            "raise the quota, or scale the live colour down first",
        )),
    }
}

fn labels(side: &Side) -> BTreeMap<String, String> {
    let metadata = side.deployment.spec.template.metadata.as_ref();
    metadata
        .and_then(|it| it.labels.clone())
        .unwrap_or_default()
}

/// Whether a selector selects what carries these labels. A Service without a selector
/// selects nothing.
fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
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
