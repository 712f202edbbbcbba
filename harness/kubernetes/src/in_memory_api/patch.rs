//! Patches of objects.
//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/>

use serde_json::{Map, Value};

/// The kind of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7396: lists are replaced.
    Merge,
    /// In lists, items of the same name are merged. `$patch: delete` removes an item.
    Strategic,
}

/// Applies `patch` to `target`.
pub(super) fn apply(kind: PatchKind, target: &mut Value, patch: &Value) {
    match kind {
        PatchKind::Merge => json_patch::merge(target, patch),
        PatchKind::Strategic => merge(target, patch),
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
        Value::Array(items) if items.iter().all(|item| item["name"].is_string()) => {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn patched(kind: PatchKind, mut target: Value, patch: Value) -> Value {
        apply(kind, &mut target, &patch);
        target
    }

    #[test]
    fn a_merge_replaces_lists_and_removes_nulls() {
        let target = json!({"a": {"b": 1, "c": 2}, "list": [1, 2]});
        let patch = json!({"a": {"b": null, "d": 3}, "list": [3]});
        assert_eq!(
            patched(PatchKind::Merge, target, patch),
            json!({"a": {"c": 2, "d": 3}, "list": [3]})
        );
    }

    #[test]
    fn a_strategic_patch_merges_containers_and_variables_by_name() {
        let target = json!({"containers": [
            {"name": "a", "image": "x:1", "lifecycle": {}, "env": [{"name": "V", "value": "1"}, {"name": "W", "value": "2"}]},
            {"name": "b"},
        ]});
        let patch = json!({"containers": [{"name": "a", "image": "x:2", "lifecycle": null, "env": [
            {"name": "V", "$patch": "delete"}, {"name": "W", "value": "3"}, {"name": "X", "value": "4"},
            {"name": "Y", "$patch": "delete"},
        ]}]});
        assert_eq!(
            patched(PatchKind::Strategic, target, patch),
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
            let a = if remove { Value::Null } else { json!({"n": b}) };
            let patch = json!({"a": a, "list": [{"name": "x", "n": b}, {"name": "y", "n": b}]});
            for kind in [PatchKind::Merge, PatchKind::Strategic] {
                let once = patched(kind, target.clone(), patch.clone());
                prop_assert_eq!(patched(kind, once.clone(), patch.clone()), once);
            }
        }
    }
}
