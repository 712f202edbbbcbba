//! A version that is well until it has traffic: faults planted in its pods, whoever moved it.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::try_join_all;
use harness::blue_green::Colour;
use harness::release::METRICS_PORT;
use harness::wait::{self, Observation};
use hyper::Request;
use kube::ResourceExt;
use kube::client::Body;
use serde_json::json;

use super::ground::Ground;
use crate::bench::error::BenchError;

/// For a release to come to its switch.
const SWITCH: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Has `release` go on, and the pods of `to` answer with 500 from the moment on at which
/// traffic is seen to go there.
pub async fn once_switched<T>(
    ground: &Ground<'_>,
    to: Colour,
    release: impl Future<Output = Result<T, BenchError>>,
) -> Result<T, BenchError> {
    let mut release = pin!(release);
    tokio::select! {
        biased;
        ended = &mut release => {
            ended?;
            Err(BenchError::release("a bad release")("it ended before traffic was moved"))
        }
        planted = plant(ground, to) => {
            planted?;
            release.await
        }
    }
}

async fn plant(ground: &Ground<'_>, to: Colour) -> Result<(), BenchError> {
    let switched = wait::until(
        "traffic is moved",
        SWITCH,
        LOOK_EVERY,
        async || match ground.selected().await {
            Ok(Some(colour)) if colour == to => Observation::Ready(()),
            Ok(colour) => Observation::NotYet(format!("{colour:?} is live")),
            Err(error) => Observation::NotYet(error.to_string()),
        },
    );
    switched.await?;
    let pods = ground.objects().pods(to).await;
    let pods = pods.map_err(BenchError::release("planting a fault"))?;
    let planting = pods.iter().map(|pod| fail(ground, pod.name_any()));
    try_join_all(planting).await.map(|_| ())
}

/// Has a pod fail every request from now on; its health checks go on answering well.
async fn fail(ground: &Ground<'_>, pod: String) -> Result<(), BenchError> {
    let namespace = &ground.cluster.namespace;
    let uri = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{METRICS_PORT}/proxy/faults");
    let faults = json!({"error_share": 1.0}).to_string();
    let request = Request::put(uri)
        .header("content-type", "application/json")
        .body(Body::from(faults.into_bytes()));
    let request = request.map_err(BenchError::release("planting a fault"))?;
    let answer = ground.cluster.client().send(request).await;
    let answer = answer.map_err(BenchError::release("planting a fault"))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(BenchError::release("planting a fault")(format!(
            "pod/{pod} says {status}"
        ))),
    }
}
