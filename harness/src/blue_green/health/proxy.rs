//! Pods and Services asked over HTTP through the API server: from anywhere, without a
//! port that is open.
//! <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>

use std::time::Duration;

use hyper::Request;
use kube::client::Body;
use thiserror::Error;
use tokio::time::timeout;

use crate::cluster::Cluster;

/// For an answer, as a readiness probe would have it at the most.
pub const ANSWER: Duration = Duration::from_secs(5);

/// Says which version answered.
const VERSION: &str = "x-trii-version";

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub version: Option<String>,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NoAnswer {
    /// Whoever was asked takes too long, or the API server does.
    #[error("{0}")]
    InTime(String),
    /// The API server is not reached.
    #[error("{0}")]
    AtAll(String),
}

/// Asks one pod.
pub async fn ask_pod(
    cluster: &Cluster,
    pod: &str,
    port: &str,
    path: &str,
) -> Result<Answer, NoAnswer> {
    ask(cluster, &format!("pods/{pod}:{port}"), path, ANSWER).await
}

/// Asks whichever pod a Service gives, for an answer in time.
pub async fn ask_service(
    cluster: &Cluster,
    service: &str,
    path: &str,
    within: Duration,
) -> Result<Answer, NoAnswer> {
    ask(cluster, &format!("services/{service}:http"), path, within).await
}

async fn ask(
    cluster: &Cluster,
    what: &str,
    path: &str,
    within: Duration,
) -> Result<Answer, NoAnswer> {
    let namespace = &cluster.namespace;
    let uri = format!("/api/v1/namespaces/{namespace}/{what}/proxy{path}");
    let request = Request::get(uri).body(Body::empty());
    let request = request.map_err(|error| NoAnswer::AtAll(error.to_string()))?;
    let answer = match timeout(within, cluster.client().send(request)).await {
        Ok(answer) => answer.map_err(|error| NoAnswer::AtAll(crate::chain(&error)))?,
        Err(_) => return Err(NoAnswer::InTime(format!("no answer within {within:?}"))),
    };
    let version = answer.headers().get(VERSION);
    Ok(Answer {
        status: answer.status().as_u16(),
        version: version.and_then(|it| Some(it.to_str().ok()?.to_owned())),
    })
}
