//! Resources, and the quota for them.

use serde_json::Value;

use super::helm::{every_environment, for_each};
use super::manifests::{Manifests, Object, WORKLOADS, list, quantity};

const RESOURCES: [&str; 2] = ["cpu", "memory"];

#[test]
fn every_container_has_requests_and_limits() {
    for_each(&WORKLOADS, |what, workload, _| {
        let resources = &workload.container()["resources"];
        for name in RESOURCES {
            let [request, limit] = ["requests", "limits"].map(|kind| &resources[kind][name]);
            assert!(request.is_string() && limit.is_string(), "{what} {name}");
            assert!(quantity(request) <= quantity(limit), "{what} {name}");
        }
    });
}

/// A rollout of everything while the autoscaler is at its maximum needs the most. Without quota for
/// it, some pods never start.
#[test]
fn the_quota_is_enough_for_everything_at_its_maximum() {
    for (environment, manifests) in every_environment() {
        let quota = manifests.of("ResourceQuota").next().unwrap();
        for kind in ["requests", "limits"] {
            for name in RESOURCES {
                let most: f64 = manifests
                    .workloads()
                    .map(|workload| {
                        let one = quantity(&workload.container()["resources"][kind][name]);
                        one * pods_at_most(workload, &manifests)
                    })
                    .sum();
                let hard = quantity(quota.at(&format!("/spec/hard/{kind}.{name}")));
                assert!(
                    most <= hard,
                    "{environment} {kind}.{name}: {most} of {hard}"
                );
            }
        }
    }
}

/// Returns the maximum of pods, with those of a rollout.
fn pods_at_most(workload: &Object, manifests: &Manifests) -> f64 {
    let surge = workload.at("/spec/strategy/rollingUpdate/maxSurge");
    let (_, replicas) = workload.replicas(manifests);
    (replicas + surge.as_u64().unwrap_or(0)) as f64
}

#[test]
fn with_a_quota_containers_without_resources_get_defaults() {
    for (environment, manifests) in every_environment() {
        assert_eq!(manifests.of("ResourceQuota").count(), 1, "{environment}");
        let range = manifests.of("LimitRange").next().unwrap();
        let limits: Vec<&Value> = list(range.at("/spec/limits"))
            .iter()
            .filter(|limit| limit["type"] == "Container")
            .collect();
        for name in RESOURCES {
            for default in ["default", "defaultRequest"] {
                assert!(limits[0][default][name].is_string(), "{environment}");
            }
        }
    }
}
