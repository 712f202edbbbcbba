//! The deployer of these tests, and the faults of their versions.

use std::time::Duration;

use blue_green::lock::DeployerIdentity;
use blue_green::policy::Evidence;
use blue_green::{Deployer, Policy, ProbeFrom};
use helm::METRICS_PORT;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use kubernetes::Cluster;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;

/// As in the shipped harness.toml.
pub const HELPERS: &str = "trii-monitoring";

/// Returns a deployer of a service, which must answer the paths `smoke`.
pub fn deployer<'a>(
    cluster: &'a Cluster,
    service: &'a str,
    policy: &'a Policy,
    smoke: &'a [String],
) -> Deployer<'a> {
    Deployer {
        cluster,
        service,
        policy,
        smoke,
        probe_from: ProbeFrom::Nowhere,
        helpers_namespace: HELPERS,
        holder: DeployerIdentity::this("test"),
        release: "test".into(),
        cancellation: CancellationToken::new(),
    }
}

/// Returns a policy of seconds, whose only evidence is the pods' health.
pub fn by_health(shared: &Shared) -> Policy {
    Policy {
        analysis: Evidence::None,
        watch: Duration::from_secs(2),
        warm_up: Duration::ZERO,
        drain: Duration::from_secs(1),
        ..shared.config.blue_green.clone()
    }
}

/// Gives every pod of a colour these faults.
pub async fn put_faults(cluster: &Cluster, service: &str, colour: &str, faults: &Value) {
    let api: Api<Pod> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
    let labels = format!("app.kubernetes.io/name={service},trii.co/track={colour}");
    let pods = api
        .list(&ListParams::default().labels(&labels))
        .await
        .unwrap();
    assert!(!pods.items.is_empty());
    for pod in pods {
        let uri = format!(
            "/api/v1/namespaces/{}/pods/{}:{METRICS_PORT}/proxy/faults",
            cluster.namespace,
            pod.name_any()
        );
        let request = hyper::Request::put(uri)
            .header("content-type", "application/json")
            .body(faults.to_string().into_bytes());
        let put = cluster.client().request_text(request.unwrap());
        put.await.unwrap();
    }
}
