//! HTTP requests to pods and Services through the API server's proxy, which need no open port.
//! <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>

use std::time::Duration;

use hyper::header::HeaderName;
use hyper::{HeaderMap, Request};
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;

/// The answer of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodAnswer {
    pub status: u16,
    pub headers: HeaderMap,
}

impl PodAnswer {
    /// Returns the text of a header.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Sends a GET request to `target`, such as `pods/NAME:PORT` or `services/NAME:PORT`.
///
/// # Errors
/// Why there is no answer.
pub async fn get(
    client: &Client,
    namespace: &str,
    target: &str,
    path: &str,
    within: Duration,
) -> Result<PodAnswer, String> {
    let request = request(namespace, target, path, Body::empty())?;
    let answer = in_time(within, client.send(request)).await?;
    let (head, _) = answer.into_parts();
    Ok(PodAnswer {
        status: head.status.as_u16(),
        headers: head.headers,
    })
}

/// As [`get`], but returns the body of an answer with 2xx.
///
/// # Errors
/// Why there is no such answer.
pub async fn get_text(
    client: &Client,
    namespace: &str,
    target: &str,
    path: &str,
    within: Duration,
) -> Result<String, String> {
    let request = request(namespace, target, path, Vec::new())?;
    in_time(within, client.request_text(request)).await
}

fn request<T>(namespace: &str, target: &str, path: &str, body: T) -> Result<Request<T>, String> {
    let uri = format!("/api/v1/namespaces/{namespace}/{target}/proxy{path}");
    let request = Request::get(uri).body(body);
    request.map_err(|error| error.to_string())
}

async fn in_time<T>(
    within: Duration,
    sent: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, String> {
    match timeout(within, sent).await {
        Ok(answer) => answer.map_err(|error| base::chain(&error)),
        Err(_) => Err(format!("no answer within {within:?}")),
    }
}
