//! Fields of Kubernetes objects.

use serde_json::Value;

/// Whether an object is in the namespace. Without one of its own, it is.
pub(super) fn is_in(object: &Value, namespace: &str) -> bool {
    let own = object["metadata"]["namespace"].as_str();
    own.is_none_or(|own| own == namespace)
}

/// The names of a container's, or a Service's, ports.
pub(super) fn port_names(owner: &Value) -> impl Iterator<Item = &str> {
    let ports = list(&owner["ports"]).iter();
    ports.filter_map(|port| port["name"].as_str())
}

/// Whether labels have all those of a selector.
pub(super) fn matches(selector: &Value, labels: &Value) -> bool {
    let mut wanted = selector.as_object().into_iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

/// The elements of a list; none if it is not a list.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text; an empty one if it is not a text.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Joins what was found, for a message: `a, b`, or `none`.
pub(super) fn found<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}
