//! The replacement and the stop of pods.

use serde_json::{Value, json};

use super::helm::{Render, every_environment, for_each};
use super::manifests::{Manifests, labels};

#[test]
fn a_rollout_never_has_fewer_pods_than_requested() {
    let update = json!({"maxUnavailable": 0, "maxSurge": 1});
    let expected = json!({"type": "RollingUpdate", "rollingUpdate": update});
    for_each(&["Deployment"], |what, deployment, _| {
        assert_eq!(*deployment.at("/spec/strategy"), expected, "{what}");
    });
}

/// A process that is killed while it drains drops requests.
#[test]
fn the_grace_period_covers_draining_and_shutting_down() {
    let slow = Render::of("local")
        .set("shutdown.drainSeconds=20")
        .set("shutdown.requestSeconds=60")
        .set("shutdown.preStopSeconds=7");
    let renderings = every_environment().chain([("slow", slow.manifests())]);
    for (environment, manifests) in renderings {
        for deployment in manifests.of("Deployment") {
            let seconds = |name: &str| -> u64 {
                let value = deployment.variable(&manifests, name).unwrap();
                value.as_str().unwrap().parse().unwrap()
            };
            let sleep = &deployment.container()["lifecycle"]["preStop"]["sleep"]["seconds"];
            let sleep = sleep.as_u64().unwrap_or(0);
            let needed = sleep + seconds("DRAIN_SECONDS") + seconds("SHUTDOWN_SECONDS");
            let grace = &deployment.pod()["terminationGracePeriodSeconds"];
            assert!(grace.as_u64() > Some(needed), "{environment}: {grace}");
        }
    }
}

/// Before SIGTERM, no traffic goes to the pod any more.
#[test]
fn every_pod_waits_for_the_traffic_to_leave_before_it_stops() {
    let expected = json!({"preStop": {"sleep": {"seconds": 3}}});
    for_each(&["Deployment"], |what, deployment, _| {
        assert_eq!(deployment.container()["lifecycle"], expected, "{what}");
    });
    let without = Render::of("local").set("shutdown.preStopSeconds=0");
    for deployment in without.manifests().of("Deployment") {
        assert!(deployment.container()["lifecycle"].is_null());
    }
}

#[test]
fn probes_request_the_paths_of_the_platform() {
    for_each(&["Deployment"], |what, deployment, _| {
        for (probe, path) in [
            ("startupProbe", "/health/live"),
            ("livenessProbe", "/health/live"),
            ("readinessProbe", "/health/ready"),
        ] {
            let expected = json!({"path": path, "port": "metrics"});
            let request = &deployment.container()[probe]["httpGet"];
            assert_eq!(*request, expected, "{what} {probe}");
        }
    });
}

#[test]
fn each_service_of_more_than_one_pod_has_a_disruption_budget() {
    let single = Render::of("local").set("services.frontend-app.replicas=1");
    let renderings = every_environment().chain([("single", single.manifests())]);
    for (environment, manifests) in renderings {
        for deployment in manifests.of("Deployment") {
            let (least, _) = deployment.replicas(&manifests);
            let name = deployment.name();
            let budget = manifests.get("PodDisruptionBudget", name);
            assert_eq!(budget.is_some(), least > 1, "{environment} {name}");
        }
    }
}

fn pod_annotations(manifests: &Manifests, service: &str) -> Value {
    let deployment = manifests.get("Deployment", service).unwrap();
    deployment.at("/spec/template/metadata/annotations").clone()
}

#[test]
fn a_change_of_a_services_environment_replaces_its_pods_and_no_others() {
    let before = Render::of("local").manifests();
    let after = Render::of("local")
        .values(json!({"services": {"api-gateway": {"env": {"UPSTREAM_TIMEOUT_SECONDS": "7"}}}}))
        .manifests();
    for service in before.of("Deployment") {
        let name = service.name();
        let is_replaced = pod_annotations(&before, name) != pod_annotations(&after, name);
        assert_eq!(is_replaced, name == "api-gateway", "{name}");
    }
}

/// It overrides the one of all services.
#[test]
fn a_services_own_variable_has_priority() {
    let manifests = Render::of("local")
        .values(json!({"services": {"api-gateway": {"env": {"LOG_LEVEL": "DEBUG"}}}}))
        .manifests();
    for config_map in manifests.of("ConfigMap") {
        let expected = match config_map.name() {
            "api-gateway" => "DEBUG",
            _ => "INFO",
        };
        assert_eq!(labels(config_map.at("/data"))["LOG_LEVEL"], expected);
    }
}
