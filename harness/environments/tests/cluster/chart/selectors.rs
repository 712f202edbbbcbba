//! The pods that each selector finds.

use serde_json::json;

use super::helm::{Render, every_environment, for_each};
use super::manifests::{Object, labels, list, selector};

fn names<'a>(objects: &[&'a Object]) -> Vec<&'a str> {
    objects.iter().map(|object| object.name()).collect()
}

/// A selector that is too wide sends one service's requests to another's pods, or makes two
/// Deployments manage the same pods.
#[test]
fn each_selector_finds_the_pods_of_its_own_workload_and_no_others() {
    for (environment, manifests) in every_environment() {
        for object in manifests.all() {
            let selector = match object.kind() {
                "Service" => labels(object.at("/spec/selector")),
                "Deployment" | "PodDisruptionBudget" => selector(object.at("/spec/selector")),
                "NetworkPolicy" => selector(object.at("/spec/podSelector")),
                _ => continue,
            };
            let found = manifests.selected(&selector);
            let what = format!("{environment} {}", object.title());
            match object.name() {
                _ if object.kind() == "Service" => assert_eq!(found.len(), 1, "{what}"),
                "default-deny" => assert_eq!(found.len(), manifests.workloads().count(), "{what}"),
                // The pods of cert-manager.
                "acme-http01-solver" => assert!(found.is_empty(), "{what}"),
                // The service's pods of each colour.
                name if object.kind() == "NetworkPolicy" => {
                    let own = found.iter().all(|workload| workload.service() == name);
                    assert!(!found.is_empty() && own, "{what}");
                }
                name => assert_eq!(names(&found), [name], "{what}"),
            }
        }
    }
}

#[test]
fn spreading_counts_only_a_workloads_own_pods() {
    for_each(&["Deployment"], |what, deployment, manifests| {
        let constraints = list(&deployment.pod()["topologySpreadConstraints"]);
        assert_eq!(constraints.len(), 2, "{what}");
        for constraint in constraints {
            let found = manifests.selected(&selector(&constraint["labelSelector"]));
            assert_eq!(names(&found), [deployment.name()], "{what}");
            assert_eq!(constraint["whenUnsatisfiable"], "ScheduleAnyway");
        }
    });
}

/// A Deployment's selector cannot be changed: with one that differs, every upgrade fails.
#[test]
fn selectors_are_the_same_in_every_release() {
    let selectors = |render: Render| {
        let manifests = render.manifests();
        manifests
            .of("Deployment")
            .map(|deployment| deployment.at("/spec/selector").clone())
            .collect::<Vec<_>>()
    };
    let next = json!({"global": {"imageTag": "next", "environment": "other"}});
    let next = selectors(Render::of("staging").values(next));
    assert_eq!(selectors(Render::of("defaults")), next);
}

/// No selector finds another track of a service, such as the second colour.
#[test]
fn another_track_of_a_service_is_not_selected() {
    for_each(&["Deployment"], |what, deployment, manifests| {
        let mut other = deployment.pod_labels();
        other.insert("trii.co/track".into(), "another".into());
        let service = manifests.get("Service", deployment.service()).unwrap();
        for selector in [
            selector(deployment.at("/spec/selector")),
            labels(service.at("/spec/selector")),
        ] {
            let mut labels = selector.iter();
            let differs = labels.any(|(key, value)| other.get(key) != Some(value));
            assert!(differs, "{what}");
        }
    });
}

#[test]
fn every_object_has_the_recommended_labels() {
    for (environment, manifests) in every_environment() {
        for object in manifests.all() {
            let labels = labels(object.at("/metadata/labels"));
            for name in ["name", "instance", "version", "part-of", "managed-by"] {
                let label = format!("app.kubernetes.io/{name}");
                let title = object.title();
                assert!(labels.contains_key(&label), "{environment} {title} {label}");
            }
            assert_eq!(labels["helm.sh/chart"], "trii-platform-2.1.0");
        }
        // The selector of `kubectl wait --selector app.kubernetes.io/instance=trii-platform`.
        for workload in manifests.workloads() {
            let labels = workload.pod_labels();
            assert_eq!(labels["app.kubernetes.io/instance"], "trii-platform");
            // The chart's version alone must not replace pods.
            assert!(!labels.contains_key("helm.sh/chart"));
        }
    }
}
