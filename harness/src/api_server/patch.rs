//! Changes to objects, as the Kubernetes API takes them.
//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/>

use serde_json::{Map, Value};

/// How a patch is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 7396: what is a list is replaced.
    Merge,
    /// The same, but of lists the items of one name are merged; `$patch: delete` removes one.
    Strategic,
}

/// Applies `patch` to `target`.
pub(super) fn apply(kind: Kind, target: &mut Value, patch: &Value) {
    match kind {
        Kind::Merge => json_patch::merge(target, patch),
        Kind::Strategic => merge(target, patch),
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            for (key, value) in fields {
                match (target.as_object_mut(), value) {
                    (Some(into), Value::Null) => drop(into.remove(key)),
                    _ => merge(&mut target[key], value),
                }
            }
        }
        Value::Array(items) if items.iter().all(is_named) => {
            if !target.is_array() {
                *target = Value::Array(Vec::new());
            }
            if let Value::Array(into) = target {
                merge_by_name(into, items);
            }
        }
        other => *target = other.clone(),
    }
}

fn merge_by_name(into: &mut Vec<Value>, items: &[Value]) {
    for item in items {
        let at = into.iter().position(|it| it["name"] == item["name"]);
        match (at, item["$patch"] == "delete") {
            (Some(at), true) => drop(into.remove(at)),
            (None, true) => {}
            (Some(at), false) => merge(&mut into[at], item),
            (None, false) => into.push(item.clone()),
        }
    }
}

fn is_named(item: &Value) -> bool {
    item["name"].is_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn patched(kind: Kind, mut target: Value, patch: Value) -> Value {
        apply(kind, &mut target, &patch);
        target
    }

    #[test]
    fn a_merge_replaces_lists_and_removes_what_is_null() {
        let target = json!({"a": {"b": 1, "c": 2}, "list": [1, 2]});
        let patch = json!({"a": {"b": null, "d": 3}, "list": [3]});
        assert_eq!(
            patched(Kind::Merge, target, patch),
            json!({"a": {"c": 2, "d": 3}, "list": [3]})
        );
    }

    #[test]
    fn a_strategic_one_tells_containers_and_variables_apart_by_their_names() {
        let target = json!({"containers": [
            {"name": "a", "image": "x:1", "lifecycle": {}, "env": [{"name": "V", "value": "1"}, {"name": "W", "value": "2"}]},
            {"name": "b"},
        ]});
        let patch = json!({"containers": [{"name": "a", "image": "x:2", "lifecycle": null, "env": [
            {"name": "V", "$patch": "delete"}, {"name": "W", "value": "3"}, {"name": "X", "value": "4"},
            {"name": "Y", "$patch": "delete"},
        ]}]});
        assert_eq!(
            patched(Kind::Strategic, target, patch),
            json!({"containers": [
                {"name": "a", "image": "x:2", "env": [{"name": "W", "value": "3"}, {"name": "X", "value": "4"}]},
                {"name": "b"},
            ]})
        );
    }

    proptest! {
        #[test]
        fn a_patch_twice_is_the_patch_once(a in 0..4i32, b in 0..4i32, remove in any::<bool>()) {
            let target = json!({"a": {"n": a}, "list": [{"name": "x", "n": a}]});
            let gone = if remove { Value::Null } else { json!({"n": b}) };
            let patch = json!({"a": gone, "list": [{"name": "x", "n": b}, {"name": "y", "n": b}]});
            for kind in [Kind::Merge, Kind::Strategic] {
                let once = patched(kind, target.clone(), patch.clone());
                prop_assert_eq!(patched(kind, once.clone(), patch.clone()), once);
            }
        }
    }
}
