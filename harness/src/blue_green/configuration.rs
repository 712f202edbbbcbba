//! What a colour's pods are besides their version: environment, resources, probes, mounts. The
//! chart changes it where nothing runs, and it goes live as a version does: by a release.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::colour::TRACK;
use super::error::BlueGreenError;
use super::objects::{Objects, Side, Sides, VERSION};
use crate::cluster::ClusterError;

/// What `kubectl rollout restart` leaves: it changes nothing else.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Whether the idle colour is to run otherwise than the live one, whatever their versions.
pub(super) fn differs(objects: &Objects<'_>, sides: &Sides) -> Result<bool, BlueGreenError> {
    let (live, idle) = (&sides.live.deployment, &sides.idle.deployment);
    Ok(of(objects, live)? != of(objects, idle)?)
}

/// A Deployment's pod template, without what tells colours and versions apart.
fn of(objects: &Objects<'_>, deployment: &Deployment) -> Result<Value, BlueGreenError> {
    let name = &objects.container(deployment)?.name;
    let mut template = json!(deployment.spec.template);
    for container in containers(&mut template) {
        if container["name"] == json!(name) {
            container["image"] = Value::Null;
        }
    }
    forget(&mut template);
    Ok(template)
}

/// The pod template that gives a colour what `like` has, and leaves it its own version.
pub(super) fn template_like(
    objects: &Objects<'_>,
    side: &Side,
    like: &Side,
) -> Result<PodTemplateSpec, BlueGreenError> {
    let own = objects.container(&side.deployment)?;
    let mut template = json!(like.deployment.spec.template);
    for container in containers(&mut template) {
        if container["name"] == json!(own.name) {
            container["image"] = json!(own.image);
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
