//! HorizontalPodAutoscalers.

use serde_json::{Value, json};

use super::helm::{Render, every_environment};
use super::manifests::quantity;

#[test]
fn an_autoscaler_has_its_target_to_itself() {
    for (environment, manifests) in every_environment() {
        let scalers: Vec<_> = manifests.of("HorizontalPodAutoscaler").collect();
        let targets = scalers
            .iter()
            .map(|scaler| scaler.at("/spec/scaleTargetRef/name").as_str().unwrap());
        let mut targets: Vec<&str> = targets.collect();
        targets.sort_unstable();
        let colours = ["market-data-service-blue", "market-data-service-green"];
        assert_eq!(targets, colours, "{environment}");
        for scaler in scalers {
            // The least of a service that may lose a pod at any time.
            assert!(scaler.at("/spec/minReplicas").as_u64() >= Some(2));
        }
    }
}

/// Stated, every upgrade would set it back.
#[test]
fn a_scaled_deployment_that_is_no_colour_states_no_replicas() {
    let single = || Render::of("local").set("services.market-data-service.blueGreen.enabled=false");
    for deployment in single().manifests().of("Deployment") {
        let scaled = deployment.name() == "market-data-service";
        let replicas = deployment.at("/spec/replicas");
        assert_eq!(replicas.is_null(), scaled, "{}", deployment.title());
    }
}

/// A target below what a process holds at rest keeps the count at its maximum; one above the
/// limit is never seen, as the container is killed before.
#[test]
fn the_memory_target_is_above_the_request_and_below_the_limit() {
    for (environment, manifests) in every_environment() {
        for scaler in manifests.of("HorizontalPodAutoscaler") {
            let target = scaler.at("/spec/scaleTargetRef/name").as_str().unwrap();
            let deployment = manifests.get("Deployment", target).unwrap();
            let resources = &deployment.container()["resources"];
            let memory = scaler
                .list("/spec/metrics")
                .iter()
                .find(|metric| metric["resource"]["name"] == "memory")
                .unwrap();
            let target = &memory["resource"]["target"];
            assert_eq!(target["type"], "AverageValue", "{environment}");
            let average = quantity(&target["averageValue"]);
            assert!(average > quantity(&resources["requests"]["memory"]));
            assert!(average < 0.9 * quantity(&resources["limits"]["memory"]));
        }
    }
}

fn metric_types(render: Render) -> Vec<Value> {
    let manifests = render.manifests();
    let scaler = manifests.of("HorizontalPodAutoscaler").next().unwrap();
    scaler
        .list("/spec/metrics")
        .iter()
        .map(|metric| metric["type"].clone())
        .collect()
}

/// A metric that nobody serves keeps an autoscaler from scaling down.
#[test]
fn requests_a_second_count_only_where_an_adapter_is_declared() {
    assert_eq!(
        metric_types(Render::of("production")),
        ["Resource", "Resource"]
    );
    let declared = "services.market-data-service.autoscaling.requestsPerSecond.enabled=true";
    assert_eq!(
        metric_types(Render::of("production").set(declared)),
        ["Resource", "Resource", "Pods"]
    );
}

#[test]
fn the_policy_is_the_guides() {
    let manifests = Render::of("production").manifests();
    let scaler = manifests
        .get("HorizontalPodAutoscaler", "market-data-service-blue-hpa")
        .unwrap();
    let policy = |window: u64, percent: u64| {
        json!({
            "stabilizationWindowSeconds": window,
            "policies": [{"type": "Percent", "value": percent, "periodSeconds": 60}],
        })
    };
    assert_eq!(
        scaler.0["spec"]["behavior"],
        json!({"scaleDown": policy(300, 10), "scaleUp": policy(60, 50)})
    );
    assert_eq!(scaler.0["spec"]["minReplicas"], 3);
    assert_eq!(scaler.0["spec"]["maxReplicas"], 10);
}
