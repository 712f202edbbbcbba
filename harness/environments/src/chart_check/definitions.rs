//! The kinds that an API serves, and those that CustomResourceDefinitions add.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::{list, text};

/// Kinds, each as its `apiVersion` and its name: `("apps/v1", "Deployment")`.
pub type Kinds = BTreeSet<(String, String)>;

/// The kinds of a CustomResourceDefinition; none of another object.
pub(super) fn defined_by(object: &Value) -> Vec<(String, String)> {
    if object["kind"] != "CustomResourceDefinition" {
        return Vec::new();
    }
    let spec = &object["spec"];
    let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
    let versions = list(&spec["versions"]).iter();
    let served = versions.filter(|version| version["served"] == true);
    served
        .map(|version| {
            (
                format!("{group}/{}", text(&version["name"])),
                kind.to_owned(),
            )
        })
        .collect()
}
