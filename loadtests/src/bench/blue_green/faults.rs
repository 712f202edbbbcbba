//! A version that is good until it has traffic: faults are then planted in its pods.

use std::future::Future;
use std::pin::pin;

use futures::future::try_join_all;
use helm::METRICS_PORT;
use hyper::Request;
use kube::ResourceExt;
use kube::client::Body;
use serde_json::json;

use super::release_site::ReleaseSite;
use crate::bench::error::BenchError;

/// Runs `release`. As soon as traffic no longer goes to `before`, the pods of the new version
/// answer a share of their requests with 500.
pub async fn plant_once_switched<T>(
    site: &ReleaseSite,
    before: &str,
    error_share: f64,
    release: impl Future<Output = Result<T, BenchError>>,
) -> Result<T, BenchError> {
    let mut release = pin!(release);
    tokio::select! {
        biased;
        ended = &mut release => {
            ended?;
            Err(BenchError::release("a bad release")("it ended before traffic was moved"))
        }
        planted = plant(site, before, error_share) => {
            planted?;
            release.await
        }
    }
}

async fn plant(site: &ReleaseSite, before: &str, error_share: f64) -> Result<(), BenchError> {
    let new = site.switched(before).await?;
    let pods = site.pods_of(&new).await?;
    let planting = pods
        .iter()
        .map(|pod| fail(site, pod.name_any(), error_share));
    try_join_all(planting).await.map(|_| ())
}

/// Makes a pod fail that share of requests. Its health checks still succeed.
async fn fail(site: &ReleaseSite, pod: String, error_share: f64) -> Result<(), BenchError> {
    let namespace = &site.cluster.namespace;
    let uri = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{METRICS_PORT}/proxy/faults");
    let faults = json!({"error_share": error_share}).to_string();
    let request = Request::put(uri)
        .header("content-type", "application/json")
        .body(Body::from(faults.into_bytes()));
    let request = request.map_err(BenchError::release("planting a fault"))?;
    let answer = site.cluster.client().send(request).await;
    let answer = answer.map_err(BenchError::release("planting a fault"))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(BenchError::release("planting a fault")(format!(
            "pod/{pod} answers {status}"
        ))),
    }
}
