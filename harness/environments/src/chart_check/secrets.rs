//! Each Secret that a pod or an Ingress needs is supplied, with the key.

use std::collections::BTreeMap;

use serde_json::Value;

use super::builtin::is_builtin;
use super::contents::SecretKeys;
use super::fields::{found, list, text};
use super::images::loaded;
use super::objects::{ChartObject, Comparison, Pods};
use crate::config::ConfigError;
use base::text::similar;

/// A reference to a Secret.
struct Needed<'a> {
    by: ChartObject<'a>,
    /// Who needs it: `deployment/api-gateway, container app`.
    who: String,
    secret: &'a str,
    key: Option<&'a str>,
}

pub(super) fn check(comparison: &Comparison<'_>) -> Vec<ConfigError> {
    // Who may not read Secrets cannot know which are there.
    let Some(there) = &comparison.contents.secrets else {
        return Vec::new();
    };
    let mut supplied = there.clone();
    for secret in comparison.of_kind("Secret") {
        let keys = SecretKeys::of(secret.object);
        supplied.insert(secret.name().to_owned(), keys);
    }
    let of_pods = comparison.pods().flat_map(|it| of_pods(comparison, it));
    let of_ingresses = comparison.of_kind("Ingress").flat_map(of_ingress);
    let mut refused: Vec<ConfigError> = Vec::new();
    let mut reported = Vec::new();
    for needed in of_pods.chain(of_ingresses) {
        let id = (needed.secret, needed.key);
        if is_made_later(comparison, needed.secret) || reported.contains(&id) {
            continue;
        }
        if let Some(refusal) = refuse(comparison, &supplied, &needed) {
            reported.push(id);
            refused.push(refusal);
        }
    }
    refused
}

/// A custom resource, or the command of a Job, that names a Secret may make it: an ExternalSecret, a
/// Certificate, a Job that makes certificates.
fn is_made_later(comparison: &Comparison<'_>, secret: &str) -> bool {
    comparison.objects().any(|it| match it.kind() {
        "Job" => it.pods().is_some_and(|pods| {
            let commands = pods
                .containers()
                .flat_map(|it| [&it["command"], &it["args"]]);
            let mut words = commands.flat_map(list).map(text);
            words.any(|word| word.contains(secret))
        }),
        _ => !is_builtin(it.api_version()) && has_value(it.object, secret),
    })
}

fn has_value(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Array(items) => items.iter().any(|it| has_value(it, wanted)),
        Value::Object(fields) => fields.values().any(|it| has_value(it, wanted)),
        _ => false,
    }
}

fn refuse(
    comparison: &Comparison<'_>,
    supplied: &BTreeMap<String, SecretKeys>,
    needed: &Needed<'_>,
) -> Option<ConfigError> {
    let Needed { secret, who, .. } = needed;
    let key = needed.key;
    let (missing, near) = match supplied.get(*secret) {
        None => {
            let names = || supplied.keys().map(String::as_str);
            let of = key
                .map(|key| format!("the key {key:?} of "))
                .unwrap_or_default();
            let there = found(names());
            let missing =
                format!("{of}the Secret {secret:?}, which nothing makes; there are: {there}");
            (missing, similar(secret, names()))
        }
        Some(keys) => {
            let key = key.filter(|key| !keys.has(key))?;
            let there = found(keys.names());
            let missing =
                format!("the key {key:?} of the Secret {secret:?}, which has the keys: {there}");
            (missing, similar(key, keys.names()))
        }
    };
    let is_tls = needed.by.kind() == "Ingress";
    let mut help = near.map_or_else(String::new, |near| format!("did you mean {near:?}? Or "));
    help += &match (comparison.contents.is_ours, is_tls) {
        (false, _) => "make it in the namespace first, or set the chart's values".to_owned(),
        (true, true) => format!("add to [platform]: tls_secret = {secret:?}"),
        (true, false) => format!(
            "add [secrets.{secret}] with {key} = \"{{jwt_secret}}\" or another of the harness' secrets, or a \
             Secret to platform.manifests",
            key = key.unwrap_or("KEY"),
        ),
    };
    let message = format!("{who} needs {missing}");
    Some(comparison.refuse_release(needed.by.release, message, help))
}

/// What the pods need before they start.
fn of_pods<'a>(comparison: &Comparison<'a>, pods: Pods<'a>) -> Vec<Needed<'a>> {
    let spec = pods.spec();
    // The Secrets Store CSI driver makes Secrets when it mounts a volume.
    let mut volumes = list(&spec["volumes"]).iter();
    if volumes.any(|it| it["csi"]["driver"] == "secrets-store.csi.k8s.io") {
        return Vec::new();
    }
    let mut all = Vec::new();
    let title = pods.owner.title();
    let mut need = |who: String, reference: &'a Value, name: &str, key: Option<&'a str>| {
        let secret = text(&reference[name]);
        if !secret.is_empty() && reference["optional"] != true {
            let by = pods.owner;
            all.push(Needed {
                by,
                who,
                secret,
                key,
            });
        }
    };
    for container in pods.containers() {
        let who = || format!("{title}, container {}", text(&container["name"]));
        for variable in list(&container["env"]) {
            let reference = &variable["valueFrom"]["secretKeyRef"];
            need(who(), reference, "name", reference["key"].as_str());
        }
        for source in list(&container["envFrom"]) {
            need(who(), &source["secretRef"], "name", None);
        }
    }
    for volume in list(&spec["volumes"]) {
        let who = || format!("{title}, volume {}", text(&volume["name"]));
        let projected = list(&volume["projected"]["sources"]).iter();
        let projected = projected.map(|source| (&source["secret"], "name"));
        for (reference, name) in projected.chain([(&volume["secret"], "secretName")]) {
            need(who(), reference, name, None);
            for item in list(&reference["items"]) {
                need(who(), reference, name, item["key"].as_str());
            }
        }
    }
    // Without them the kubelet still starts pods whose images the node has.
    let loaded = loaded(comparison);
    let mut images = pods.containers().map(|it| text(&it["image"]));
    if images.any(|image| !loaded.contains(image)) {
        for reference in list(&spec["imagePullSecrets"]) {
            need(
                format!("{title}, to pull its images,"),
                reference,
                "name",
                None,
            );
        }
    }
    all
}

/// The certificates of an Ingress. cert-manager makes those of an Ingress that it is annotated for.
fn of_ingress(ingress: ChartObject<'_>) -> Vec<Needed<'_>> {
    let annotations = ingress.at("/metadata/annotations").as_object();
    let mut names = annotations.into_iter().flatten().map(|(name, _)| name);
    if names.any(|name| name.starts_with("cert-manager.io/")) {
        return Vec::new();
    }
    let tls = list(ingress.at("/spec/tls")).iter();
    let secrets = tls.filter_map(|it| it["secretName"].as_str());
    secrets
        .map(|secret| Needed {
            by: ingress,
            who: ingress.title(),
            secret,
            key: None,
        })
        .collect()
}
