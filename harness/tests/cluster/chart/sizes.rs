//! Resources, and the quota they have to fit in.

use serde_json::Value;

use super::helm::every_environment;
use super::manifests::{Manifests, Object, list, quantity};

const RESOURCES: [&str; 2] = ["cpu", "memory"];

#[test]
fn every_container_states_what_it_needs_and_what_it_may_use() {
    for (environment, manifests) in every_environment() {
        for workload in manifests.workloads() {
            let resources = &workload.container()["resources"];
            for name in RESOURCES {
                let [request, limit] = ["requests", "limits"].map(|kind| &resources[kind][name]);
                let what = format!("{environment} {} {name}", workload.title());
                assert!(request.is_string() && limit.is_string(), "{what}");
                assert!(quantity(request) <= quantity(limit), "{what}");
            }
        }
    }
}

/// A rollout of everything at once while the autoscaler is at its maximum, which is when a
/// quota that is too small shows: by pods that never come.
#[test]
fn the_quota_holds_everything_at_its_most() {
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

/// With the surplus pods of a rollout.
fn pods_at_most(workload: &Object, manifests: &Manifests) -> f64 {
    let surge = workload.at("/spec/strategy/rollingUpdate/maxSurge");
    let (_, replicas) = workload.replicas(manifests);
    (replicas + surge.as_u64().unwrap_or(0)) as f64
}

#[test]
fn where_there_is_a_quota_containers_that_state_nothing_get_defaults() {
    for (environment, manifests) in every_environment() {
        assert_eq!(manifests.of("ResourceQuota").count(), 1, "{environment}");
        let range = manifests.of("LimitRange").next().unwrap();
        let limits: Vec<&Value> = list(range.at("/spec/limits"))
            .iter()
            .filter(|limit| limit["type"] == "Container")
            .collect();
        for name in RESOURCES {
            assert!(limits[0]["default"][name].is_string(), "{environment}");
            assert!(
                limits[0]["defaultRequest"][name].is_string(),
                "{environment}"
            );
        }
    }
}
