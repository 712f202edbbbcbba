//! Replacing and stopping pods.

use serde_json::{Value, json};

use super::helm::{Render, every_environment};
use super::manifests::{Manifests, labels};

#[test]
fn a_rollout_never_has_fewer_pods_than_asked_for() {
    for (environment, manifests) in every_environment() {
        for deployment in manifests.of("Deployment") {
            assert_eq!(
                *deployment.at("/spec/strategy"),
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}),
                "{environment} {}",
                deployment.title()
            );
        }
    }
}

/// A process that is killed while it still drains drops requests.
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
            let sleeps =
                deployment.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
            let needed =
                sleeps.unwrap_or(0) + seconds("DRAIN_SECONDS") + seconds("SHUTDOWN_SECONDS");
            let grace = &deployment.pod()["terminationGracePeriodSeconds"];
            assert!(grace.as_u64() > Some(needed), "{environment}: {grace}");
        }
    }
}

/// Whatever a service does on SIGTERM, the traffic has left by then.
#[test]
fn every_pod_waits_for_the_traffic_to_leave_before_it_is_told_to_stop() {
    for (environment, manifests) in every_environment() {
        for deployment in manifests.of("Deployment") {
            assert_eq!(
                deployment.container()["lifecycle"],
                json!({"preStop": {"sleep": {"seconds": 3}}}),
                "{environment} {}",
                deployment.title()
            );
        }
    }
    let without = Render::of("local").set("shutdown.preStopSeconds=0");
    for deployment in without.manifests().of("Deployment") {
        assert!(deployment.container()["lifecycle"].is_null());
    }
}

#[test]
fn probes_ask_the_paths_that_the_platform_has() {
    for (environment, manifests) in every_environment() {
        for deployment in manifests.of("Deployment") {
            let container = deployment.container();
            for (probe, path) in [
                ("startupProbe", "/health/live"),
                ("livenessProbe", "/health/live"),
                ("readinessProbe", "/health/ready"),
            ] {
                let asked = json!({"path": path, "port": "metrics"});
                assert_eq!(
                    container[probe]["httpGet"],
                    asked,
                    "{environment} {}",
                    deployment.title()
                );
            }
        }
    }
}

#[test]
fn a_budget_guards_each_service_of_more_than_one_pod() {
    let single = Render::of("local").set("services.frontend-app.replicas=1");
    let renderings = every_environment().chain([("single", single.manifests())]);
    for (environment, manifests) in renderings {
        for deployment in manifests.of("Deployment") {
            let (least, _) = deployment.replicas(&manifests);
            let budget = manifests.get("PodDisruptionBudget", deployment.name());
            assert_eq!(
                budget.is_some(),
                least > 1,
                "{environment} {}",
                deployment.title()
            );
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
        assert_eq!(
            pod_annotations(&before, name) != pod_annotations(&after, name),
            name == "api-gateway",
            "{name}"
        );
    }
}

/// A service's own variable wins over the one of all services.
#[test]
fn a_services_own_variable_wins() {
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
