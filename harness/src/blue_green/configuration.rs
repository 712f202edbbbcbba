//! What a colour's pods are besides their version: environment, resources, probes, mounts. The
//! chart changes it where nothing runs, and it goes live as a version does: by a release.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::colour::TRACK;
use super::error::BlueGreenError;
use super::objects::{Objects, Side, VERSION};
use crate::cluster::ClusterError;

/// What `kubectl rollout restart` leaves: it changes nothing else.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Whether the pods of two Deployments of a service are to be otherwise than in their versions.
pub(crate) fn differ(service: &str, one: &Deployment, other: &Deployment) -> bool {
    of(service, one) != of(service, other)
}

/// A Deployment's pod template, without what tells colours and versions apart.
fn of(service: &str, deployment: &Deployment) -> Value {
    let mut template = json!(deployment.spec.template);
    for container in containers(&mut template) {
        if container["name"] == service {
            container["image"] = Value::Null;
        }
    }
    forget(&mut template);
    template
}

/// The pod template that gives a colour what `like` has, and leaves it its own version.
pub(super) fn template_like(
    service: &str,
    side: &Side,
    like: &Side,
) -> Result<PodTemplateSpec, BlueGreenError> {
    let mut own = json!(side.deployment.spec.template);
    let own = containers(&mut own).find(|it| it["name"] == service);
    let image = own.map_or(Value::Null, |it| it["image"].take());
    let mut template = json!(like.deployment.spec.template);
    for container in containers(&mut template) {
        if container["name"] == service {
            container["image"] = image.clone();
        }
    }
    set_track(&mut template, side.colour.name());
    template["metadata"]["labels"][VERSION] = json!(side.version);
    serde_json::from_value(template).map_err(|error| {
        let what = format!(
            "make a pod template of that of {}",
            like.deployment.name_any()
        );
        BlueGreenError::Cluster(ClusterError::Refused {
            what,
            reason: error.to_string(),
        })
    })
}

/// How a person sees it.
pub(super) fn look_command(objects: &Objects<'_>, side: &Side) -> String {
    objects.kubectl(&format!(
        "get deployment {} -o yaml",
        side.deployment.name_any()
    ))
}

fn containers(template: &mut Value) -> impl Iterator<Item = &mut Value> {
    let containers = template["spec"]["containers"].as_array_mut();
    containers.into_iter().flatten()
}

/// Colours are told apart by one label, wherever it stands.
fn set_track(value: &mut Value, colour: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name == TRACK {
                    true => *value = json!(colour),
                    false => set_track(value, colour),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| set_track(item, colour)),
        _ => {}
    }
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in [TRACK, VERSION, RESTARTED] {
                fields.remove(name);
            }
            fields.values_mut().for_each(forget);
            // An absent field and an empty one are the same to the API server.
            fields.retain(|_, value| !is_empty(value));
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
