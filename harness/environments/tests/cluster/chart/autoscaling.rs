//! HorizontalPodAutoscalers.

use serde_json::{Value, json};

use super::helm::{Render, every_environment, for_each};
use super::manifests::quantity;

#[test]
fn each_target_has_one_autoscaler() {
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
            // A service may lose a pod at any time.
            assert!(scaler.at("/spec/minReplicas").as_u64() >= Some(2));
        }
    }
}

/// With replicas, every upgrade resets them.
#[test]
fn a_scaled_deployment_without_colours_has_no_replicas() {
    let single = Render::of("local").set("services.market-data-service.blueGreen.enabled=false");
    for deployment in single.manifests().of("Deployment") {
        let scaled = deployment.name() == "market-data-service";
        let replicas = deployment.at("/spec/replicas");
        assert_eq!(replicas.is_null(), scaled, "{}", deployment.title());
    }
}

/// A target below the memory of an idle process keeps the count at its maximum. One above the limit
/// is never reached, because the container is killed before.
#[test]
fn the_memory_target_is_above_the_request_and_below_the_limit() {
    for_each(&["HorizontalPodAutoscaler"], |what, scaler, manifests| {
        let target = scaler.at("/spec/scaleTargetRef/name").as_str().unwrap();
        let deployment = manifests.get("Deployment", target).unwrap();
        let resources = &deployment.container()["resources"];
        let mut metrics = scaler.list("/spec/metrics").iter();
        let memory = metrics.find(|metric| metric["resource"]["name"] == "memory");
        let target = &memory.unwrap()["resource"]["target"];
        assert_eq!(target["type"], "AverageValue", "{what}");
        let average = quantity(&target["averageValue"]);
        assert!(
            average > quantity(&resources["requests"]["memory"]),
            "{what}"
        );
        assert!(
            average < 0.9 * quantity(&resources["limits"]["memory"]),
            "{what}"
        );
    });
}

fn metric_types(render: Render) -> Vec<Value> {
    let manifests = render.manifests();
    let scaler = manifests.of("HorizontalPodAutoscaler").next().unwrap();
    let metrics = scaler.list("/spec/metrics").iter();
    metrics.map(|metric| metric["type"].clone()).collect()
}

/// With a metric that does not exist, an autoscaler does not scale down.
#[test]
fn requests_a_second_are_a_metric_only_if_an_adapter_is_declared() {
    let production = || Render::of("production");
    assert_eq!(metric_types(production()), ["Resource", "Resource"]);
    let declared = "services.market-data-service.autoscaling.requestsPerSecond.enabled=true";
    let types = metric_types(production().set(declared));
    assert_eq!(types, ["Resource", "Resource", "Pods"]);
}

#[test]
fn the_scaling_policy_is_that_of_the_guide() {
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
