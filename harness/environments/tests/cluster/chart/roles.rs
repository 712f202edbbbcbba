//! The Roles of `fixtures/k8s-manifests/roles`: each has the permissions of one action of `allow`.

use serde_json::Value;

use super::helm::{every_environment, workspace};
use super::manifests::Manifests;
use super::types::unknown_fields;

/// The verbs that helm uses on the chart's objects.
const HELM: [&str; 5] = ["get", "create", "update", "patch", "delete"];

/// Returns the rules of the Role `trii-NAME`.
fn rules(name: &str) -> Vec<Value> {
    let file = workspace().join(format!("fixtures/k8s-manifests/roles/{name}.yaml"));
    let manifests = Manifests::parse(&std::fs::read_to_string(file).unwrap());
    let role = manifests.get("Role", &format!("trii-{name}")).unwrap();
    assert_eq!(unknown_fields(role), Ok(vec![]));
    role.0["rules"].as_array().unwrap().clone()
}

fn has(rule: &Value, key: &str, wanted: &str) -> bool {
    let mut all = rule[key].as_array().unwrap().iter();
    all.any(|value| value == wanted)
}

#[test]
fn deploying_may_change_every_kind_that_the_chart_makes() {
    let rules = rules("deploy");
    for (environment, manifests) in every_environment() {
        for object in manifests.all() {
            let version = object.0["apiVersion"].as_str().unwrap();
            let group = version.rsplit_once('/').map_or("", |(group, _)| group);
            let kind = object.kind().to_lowercase();
            let plural = match kind.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None if kind.ends_with('s') => format!("{kind}es"),
                None => format!("{kind}s"),
            };
            for verb in HELM {
                let mut rules = rules.iter();
                let granted = rules.any(|rule| {
                    has(rule, "apiGroups", group)
                        && has(rule, "resources", &plural)
                        && has(rule, "verbs", verb)
                });
                assert!(granted, "{verb} {plural} of {group:?} ({environment})");
            }
        }
    }
}

#[test]
fn reading_and_load_change_nothing() {
    for rule in [rules("read"), rules("load")].concat() {
        for verb in rule["verbs"].as_array().unwrap() {
            assert!(["get", "list"].contains(&verb.as_str().unwrap()), "{rule}");
        }
        // A `get` of a subresource can run a program, or send any request to a pod.
        for resource in rule["resources"].as_array().unwrap() {
            assert!(!resource.as_str().unwrap().contains('/'), "{rule}");
        }
    }
}

#[test]
fn nothing_is_granted_by_a_wildcard() {
    for rule in ["read", "deploy", "probe", "inside", "load"]
        .map(rules)
        .concat()
    {
        assert!(!rule.to_string().contains('*'), "{rule}");
    }
}
