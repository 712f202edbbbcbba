//! The namespaces for the chart.

use super::helm::workspace;
use super::manifests::Manifests;
use super::types::unknown_fields;

#[test]
fn the_charts_namespaces_enforce_the_restricted_standard() {
    let file = workspace().join("fixtures/k8s-manifests/namespaces/namespaces.yaml");
    let manifests = Manifests::parse(&std::fs::read_to_string(file).unwrap());
    let names: Vec<&str> = manifests.all().map(|object| object.name()).collect();
    assert_eq!(names, ["trii-platform", "trii-staging", "trii-monitoring"]);
    for namespace in manifests.all() {
        assert_eq!(unknown_fields(namespace), Ok(vec![]));
        let labels = &namespace.0["metadata"]["labels"];
        let enforced = labels["pod-security.kubernetes.io/enforce"].as_str();
        let expected = (namespace.name() != "trii-monitoring").then_some("restricted");
        assert_eq!(enforced, expected, "{}", namespace.name());
    }
}
