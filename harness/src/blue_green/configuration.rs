//! What a colour's pods are besides their version: environment, resources, probes, mounts. The
//! chart changes it where nothing runs, and it goes live as a version does: by a release.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::colour::TRACK;
use super::objects::{Side, VERSION};

/// What `kubectl rollout restart` leaves: it changes nothing else.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Whether the pods of two Deployments of a service are to be otherwise than in their versions.
pub(crate) fn differ(service: &str, one: &Deployment, other: &Deployment) -> bool {
    of(service, one) != of(service, other)
}

/// A Deployment's pod template, without what tells colours and versions apart.
fn of(service: &str, deployment: &Deployment) -> Value {
    let mut template = json!(deployment.spec.template);
    if let Some(image) = image(&mut template, service) {
        *image = Value::Null;
    }
    forget(&mut template);
    template
}

/// What a colour's pod template is to be patched with to be that of `like`, but for its own
/// version.
pub(super) fn patch_as(service: &str, side: &Side, like: &Side) -> Value {
    let mut own = json!(side.deployment.spec.template);
    let mut wanted = json!(like.deployment.spec.template);
    if let Some((own, wanted)) = image(&mut own, service).zip(image(&mut wanted, service)) {
        wanted.clone_from(own);
    }
    set_track(&mut wanted, side.colour.name());
    wanted["metadata"]["labels"][VERSION] = json!(side.version);
    merge_patch(&own, &wanted)
}

/// The image of the service's own container.
fn image<'t>(template: &'t mut Value, service: &str) -> Option<&'t mut Value> {
    let containers = template["spec"]["containers"].as_array_mut()?;
    let own = containers.iter_mut().find(|it| it["name"] == service)?;
    own.get_mut("image")
}

/// The JSON merge patch (RFC 7396) that makes the one of the other. A list is replaced as a whole.
fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return to.clone();
    };
    let gone = from.keys().filter(|name| !to.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), Value::Null));
    let other = to
        .iter()
        .filter(|(name, value)| from.get(*name) != Some(value));
    let other = other.map(|(name, value)| {
        let before = from.get(name).unwrap_or(&Value::Null);
        (name.clone(), merge_patch(before, value))
    });
    Value::Object(gone.chain(other).collect())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As an API server applies it: RFC 7396, section 2.
    fn patched(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let fields = target.as_object_mut().unwrap();
        for (name, value) in patch {
            match value {
                Value::Null => drop(fields.remove(name)),
                value => patched(fields.entry(name).or_insert(Value::Null), value),
            }
        }
    }

    /// What a template is made of: no null is in it.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(Value::from),
            "[ab]".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_merge_patch_makes_the_one_of_the_other(from in value(), to in value()) {
            let mut target = from.clone();
            patched(&mut target, &merge_patch(&from, &to));
            prop_assert_eq!(target, to);
        }
    }

    fn deployment(colour: &str, version: &str, more: Value) -> Deployment {
        let labels = json!({TRACK: colour, VERSION: version});
        let mut template = json!({"metadata": {"labels": labels}, "spec": {
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {TRACK: colour}}}],
            "containers": [{"name": "quotes", "image": format!("a/quotes:{version}")}]}});
        patched(&mut template, &more);
        let deployment = json!({"spec": {"selector": {}, "template": template}});
        serde_json::from_value(deployment).unwrap()
    }

    #[test]
    fn colours_and_versions_make_no_difference_and_all_else_does() {
        let green = deployment("green", "v2", json!({}));
        let blue = |more| deployment("blue", "v1", more);
        assert!(!differ("quotes", &green, &blue(json!({}))));
        let restarted = json!({"metadata": {"annotations": {RESTARTED: "2026-11-29T00:00:00Z"}}});
        assert!(!differ("quotes", &green, &blue(restarted)));
        for more in [
            json!({"spec": {"terminationGracePeriodSeconds": 5}}),
            json!({"metadata": {"annotations": {"checksum/environment": "b"}}}),
            json!({"spec": {"containers": [{"name": "quotes", "image": "a/quotes:v1",
                "env": [{"name": "A", "value": ""}]}]}}),
            json!({"spec": {"containers": [{"name": "quotes", "image": "a/quotes:v1"},
                {"name": "proxy", "image": "a/proxy:v1"}]}}),
        ] {
            assert!(differ("quotes", &green, &blue(more.clone())), "{more}");
        }
    }
}
