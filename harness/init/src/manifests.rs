//! Reads the objects of a chart's manifests.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::InitError;
use crate::objects::{PlatformObjects, Workload};

/// Returns the objects in manifests (YAML). No value of a Secret is kept.
///
/// # Errors
/// [`InitError::Manifest`] and [`InitError::Object`].
pub fn read(manifests: &str) -> Result<PlatformObjects, InitError> {
    let documents = helm::render::objects(manifests).map_err(InitError::Manifest)?;
    let mut objects = PlatformObjects::default();
    let mut defined = BTreeSet::new();
    for document in documents.into_iter().map(|it| it.object) {
        if document["kind"] == "CustomResourceDefinition" {
            defined.extend(document["spec"]["group"].as_str().map(str::to_owned));
        }
        add(&mut objects, document)?;
    }
    let is_defined = |kind: &String| defined.iter().any(|it| kind.ends_with(&format!("({it})")));
    objects.custom_kinds.retain(|kind| !is_defined(kind));
    Ok(objects)
}

fn add(objects: &mut PlatformObjects, document: Value) -> Result<(), InitError> {
    let text = |pointer: &str| {
        let value = document.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    match kind.as_str() {
        "Deployment" => objects.workloads.push(workload::<Deployment>(document)?),
        "StatefulSet" => objects.workloads.push(workload::<StatefulSet>(document)?),
        "DaemonSet" => objects.workloads.push(workload::<DaemonSet>(document)?),
        "Job" => objects.workloads.push(workload::<Job>(document)?),
        "CronJob" => objects.workloads.push(workload::<CronJob>(document)?),
        "Service" => objects.services.push(object(document)?),
        "Ingress" => objects.ingresses.push(object(document)?),
        "HorizontalPodAutoscaler" => objects.autoscalers.push(object(document)?),
        "Secret" => objects.own_secrets.extend([name]),
        _ => {
            let group = text("/apiVersion");
            let group = group.split_once('/').map_or("", |(group, _)| group);
            if !is_served_everywhere(group) {
                let kind = format!("{kind} ({group})");
                objects.custom_kinds.insert(kind);
            }
            objects.own_secrets.extend(made_secret(&document));
        }
    }
    Ok(())
}

fn workload<K: DeserializeOwned + Into<Workload>>(document: Value) -> Result<Workload, InitError> {
    object::<K>(document).map(Into::into)
}

fn object<K: DeserializeOwned>(document: Value) -> Result<K, InitError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&document["kind"]), text(&document["metadata"]["name"]));
    serde_json::from_value(document).map_err(|error| InitError::Object {
        kind,
        name,
        reason: error.to_string(),
    })
}

/// Whether every cluster serves the kinds of an API group. Groups of Kubernetes itself end with
/// `.k8s.io`, but the Gateway API's kinds are installed.
/// <https://kubernetes.io/docs/reference/kubernetes-api/>
fn is_served_everywhere(group: &str) -> bool {
    match group {
        "" | "apps" | "autoscaling" | "batch" | "policy" => true,
        "gateway.networking.k8s.io" => false,
        group => group.ends_with(".k8s.io"),
    }
}

/// The Secret that an operator makes of an object: External Secrets, Sealed Secrets, cert-manager.
fn made_secret(document: &Value) -> Option<String> {
    let name = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
    let made = match document["kind"].as_str()? {
        "ExternalSecret" => name("/spec/target/name").or_else(|| name("/metadata/name")),
        "SealedSecret" => name("/metadata/name"),
        "Certificate" => name("/spec/secretName"),
        _ => None,
    };
    made.map(str::to_owned)
}
