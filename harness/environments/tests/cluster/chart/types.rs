//! Every object has a type of Kubernetes, and only fields of that type.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, LimitRange, Namespace, ResourceQuota, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::helm::every_environment;
use super::manifests::Object;

/// Returns the fields of an object that its type does not have.
pub fn unknown_fields(object: &Object) -> Result<Vec<String>, String> {
    match (object.at("/apiVersion").as_str(), object.kind()) {
        (Some("apiregistration.k8s.io/v1"), "APIService") => lost::<APIService>(object),
        (Some("apps/v1"), "Deployment") => lost::<Deployment>(object),
        (Some("autoscaling/v2"), "HorizontalPodAutoscaler") => {
            lost::<HorizontalPodAutoscaler>(object)
        }
        (Some("batch/v1"), "Job") => lost::<Job>(object),
        (Some("networking.k8s.io/v1"), "Ingress") => lost::<Ingress>(object),
        (Some("networking.k8s.io/v1"), "IngressClass") => lost::<IngressClass>(object),
        (Some("networking.k8s.io/v1"), "NetworkPolicy") => lost::<NetworkPolicy>(object),
        (Some("policy/v1"), "PodDisruptionBudget") => lost::<PodDisruptionBudget>(object),
        (Some("rbac.authorization.k8s.io/v1"), "ClusterRole") => lost::<ClusterRole>(object),
        (Some("rbac.authorization.k8s.io/v1"), "ClusterRoleBinding") => {
            lost::<ClusterRoleBinding>(object)
        }
        (Some("rbac.authorization.k8s.io/v1"), "Role") => lost::<Role>(object),
        (Some("rbac.authorization.k8s.io/v1"), "RoleBinding") => lost::<RoleBinding>(object),
        (Some("v1"), "ConfigMap") => lost::<ConfigMap>(object),
        (Some("v1"), "LimitRange") => lost::<LimitRange>(object),
        (Some("v1"), "Namespace") => lost::<Namespace>(object),
        (Some("v1"), "ResourceQuota") => lost::<ResourceQuota>(object),
        (Some("v1"), "Service") => lost::<Service>(object),
        (Some("v1"), "ServiceAccount") => lost::<ServiceAccount>(object),
        (version, kind) => Err(format!("no type for {version:?} {kind}")),
    }
}

/// Reads the object as a `T` and writes it again: `T` does not have the lost fields.
fn lost<T: DeserializeOwned + Serialize>(object: &Object) -> Result<Vec<String>, String> {
    let typed: T = serde_json::from_value(object.0.clone()).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(typed).map_err(|error| error.to_string())?;
    let mut lost = Vec::new();
    compare(&object.0, &again, String::new(), &mut lost);
    Ok(lost)
}

fn compare(before: &Value, after: &Value, path: String, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let path = format!("{path}/{key}");
                match after.get(key) {
                    Some(after) => compare(value, after, path, lost),
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(before, after, format!("{path}/{index}"), lost);
            }
        }
        _ if before == after => {}
        _ => lost.push(path),
    }
}

#[test]
fn every_object_has_its_type_and_no_field_that_kubernetes_drops() {
    for (environment, manifests) in every_environment() {
        for object in manifests.all() {
            let title = object.title();
            assert_eq!(unknown_fields(object), Ok(vec![]), "{environment} {title}");
        }
    }
}

#[test]
fn a_field_at_the_wrong_level_and_a_wrong_type_are_found() {
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {
        "template": {"spec": {"containers": [{"name": "a", "runAsNonRoot": true}]}}}});
    let unknown = "/spec/template/spec/containers/0/runAsNonRoot".to_owned();
    assert_eq!(unknown_fields(&Object(job.clone())), Ok(vec![unknown]));
    job["spec"]["backoffLimit"] = json!("two");
    assert!(unknown_fields(&Object(job)).is_err());
}
