//! Each image that the harness loads is one of a pod, and which images the nodes must pull.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use super::fields::{found, list, text};
use super::objects::{Comparison, Pods};
use crate::config::ConfigError;
use base::text::similar;

/// An image that the nodes pull.
#[derive(Clone, Debug)]
pub struct PulledImage {
    /// The reference.
    pub image: String,
    /// What has a pod with it, such as `deployment/api-gateway`.
    pub owner: String,
    /// Whether the pod, or a ServiceAccount of the charts, has credentials for a registry.
    pub has_pull_secret: bool,
    /// The release that installs it, in harness.toml.
    pub place: Range<usize>,
}

/// Refuses images that no pod has: the name is probably misspelt, or the values name another.
pub(super) fn check(comparison: &Comparison<'_>) -> Vec<ConfigError> {
    if !comparison.contents.is_ours {
        return Vec::new();
    }
    let in_pods: BTreeSet<&str> = images(comparison).map(|(_, image, _)| image).collect();
    let images = comparison.config.images.values();
    images
        .filter_map(|image| {
            let name = image.of_version(comparison.version);
            if is_named(comparison, &name) {
                return None;
            }
            let message = format!(
                "no pod of the releases has the image {name:?}; their images: {}",
                found(in_pods.iter().copied())
            );
            let help = match similar(&name, in_pods.iter().copied()) {
                Some(other) => format!("did you mean {other:?}? Correct the name, or the values"),
                None => "set the image in the values of the chart, or leave this one out".into(),
            };
            let place = image.place.clone();
            Some(comparison.config.refuse(place, message, Some(help)))
        })
        .collect()
}

/// An operator, or an injected sidecar, may be told of an image by any text.
fn is_named(comparison: &Comparison<'_>, image: &str) -> bool {
    comparison.objects().any(|it| has_text(it.object, image))
}

fn has_text(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text.contains(wanted),
        Value::Array(items) => items.iter().any(|it| has_text(it, wanted)),
        Value::Object(fields) => fields.values().any(|it| has_text(it, wanted)),
        _ => false,
    }
}

/// The images that the nodes of a cluster of ours pull, each once.
pub(super) fn pulled(comparison: &Comparison<'_>) -> Vec<PulledImage> {
    if !comparison.contents.is_ours {
        return Vec::new();
    }
    let loaded = loaded(comparison);
    let mut accounts = comparison.of_kind("ServiceAccount");
    let account_has_secret = accounts.any(|it| !list(it.at("/imagePullSecrets")).is_empty());
    let mut seen = BTreeSet::new();
    images(comparison)
        .filter(|(_, image, _)| !loaded.contains(*image) && seen.insert(*image))
        .map(|(pods, image, _)| PulledImage {
            image: image.to_owned(),
            owner: pods.owner.title(),
            has_pull_secret: account_has_secret
                || !list(&pods.spec()["imagePullSecrets"]).is_empty(),
            place: pods.owner.release.place.clone(),
        })
        .collect()
}

/// What the nodes of a cluster of ours must pull: whether they can is seen only then.
pub(super) fn notes(comparison: &Comparison<'_>, pulled: &[PulledImage]) -> Vec<String> {
    if !comparison.contents.is_ours {
        return Vec::new();
    }
    let loaded = loaded(comparison);
    let again = images(comparison)
        .filter(|(_, image, container)| loaded.contains(*image) && always_pulls(container, image));
    let mut notes: Vec<String> = again
        .map(|(pods, image, _)| {
            let owner = pods.owner.title();
            format!(
                "{owner} pulls {image}, although the nodes have it: its imagePullPolicy is Always"
            )
        })
        .collect();
    if !pulled.is_empty() {
        let pulled = found(pulled.iter().map(|it| it.image.as_str()));
        notes.push(format!(
            "the nodes pull what [images] does not have: {pulled}"
        ));
    }
    notes
}

/// The names of the images that the harness loads into the nodes.
pub(super) fn loaded(comparison: &Comparison<'_>) -> BTreeSet<String> {
    let images = comparison.config.images.values();
    images.map(|it| it.of_version(comparison.version)).collect()
}

/// Kubernetes' default depends on the tag.
fn always_pulls(container: &Value, image: &str) -> bool {
    match container["imagePullPolicy"].as_str() {
        Some(policy) => policy == "Always",
        None => image.ends_with(":latest"),
    }
}

/// The images of all pods, each with its container.
fn images<'a>(comparison: &Comparison<'a>) -> impl Iterator<Item = (Pods<'a>, &'a str, &'a Value)> {
    let pods = comparison.objects().filter_map(|it| it.pods());
    pods.flat_map(|pods| {
        let containers = pods.containers();
        containers.map(move |container| (pods, text(&container["image"]), container))
    })
}
