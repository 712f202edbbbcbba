//! The configuration of a colour's pods: all of the pod template except the version. The chart
//! changes it in the idle colour, and a release makes it live, as it does with a version.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::colour::TRACK;
use super::objects::{BothColours, ColourStatus, VERSION};

/// The annotation that `kubectl rollout restart` writes.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

impl BothColours {
    /// Whether the idle colour has another configuration than the live one.
    pub fn reconfigured(&self, service: &str) -> bool {
        differ(service, &self.live.deployment, &self.idle.deployment)
    }
}

/// Returns whether the pods of two Deployments of a service differ in more than their versions.
pub fn differ(service: &str, one: &Deployment, other: &Deployment) -> bool {
    of(service, one) != of(service, other)
}

/// Returns a Deployment's pod template, without the fields of its colour and version.
fn of(service: &str, deployment: &Deployment) -> Value {
    let mut template = json!(deployment.spec.template);
    if let Some(image) = image(&mut template, service) {
        *image = Value::Null;
    }
    forget(&mut template);
    template
}

/// Returns the patch that gives a colour the pod template of `like`, but its own version.
pub(super) fn patch_as(service: &str, status: &ColourStatus, like: &ColourStatus) -> Value {
    let mut own = json!(status.deployment.spec.template);
    let mut wanted = json!(like.deployment.spec.template);
    if let Some((own, wanted)) = image(&mut own, service).zip(image(&mut wanted, service)) {
        wanted.clone_from(own);
    }
    set_track(&mut wanted, status.colour.name());
    wanted["metadata"]["labels"][VERSION] = json!(status.version);
    merge_patch(&own, &wanted)
}

/// Returns the image of the service's own container.
fn image<'t>(template: &'t mut Value, service: &str) -> Option<&'t mut Value> {
    let containers = template["spec"]["containers"].as_array_mut()?;
    let own = containers.iter_mut().find(|it| it["name"] == service)?;
    own.get_mut("image")
}

/// Returns the JSON merge patch (RFC 7396) that changes `from` to `to`. It replaces whole lists.
fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return to.clone();
    };
    let removed = from.keys().filter(|name| !to.contains_key(*name));
    let removed = removed.map(|name| (name.clone(), Value::Null));
    let changed = to.iter().filter_map(|(name, value)| {
        let before = from.get(name).unwrap_or(&Value::Null);
        (before != value).then(|| (name.clone(), merge_patch(before, value)))
    });
    Value::Object(removed.chain(changed).collect())
}

/// Sets the colour's label in selectors and labels at any depth.
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
            // The API server treats an absent field and an empty one alike.
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

    /// Applies a patch as an API server does: RFC 7396, section 2.
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

    /// The values of a template; none of them is null.
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
        fn a_merge_patch_changes_one_value_to_the_other(from in value(), to in value()) {
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
    fn only_colours_and_versions_make_no_difference() {
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
