//! Retries of requests when the API server is busy.

use hyper::{Request, Response};
use kube::client::Body;
use kube::client::retry::RetryPolicy;
use tower::BoxError;
use tower::retry::Policy;

/// kube's own policy, for the API server's own answers. An answer of a pod or a Service through its
/// proxy is final, 503 too.
#[derive(Clone, Default)]
pub(super) struct Retry(RetryPolicy);

impl<Answer> Policy<Request<Body>, Response<Answer>, BoxError> for Retry {
    type Future = <RetryPolicy as Policy<Request<Body>, Response<Answer>, BoxError>>::Future;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        answer: &mut Result<Response<Answer>, BoxError>,
    ) -> Option<Self::Future> {
        self.0.retry(request, answer)
    }

    /// A request without a copy is not retried.
    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        if is_proxied(request.uri().path()) {
            return None;
        }
        <RetryPolicy as Policy<_, Response<Answer>, _>>::clone_request(&mut self.0, request)
    }
}

/// `/api/v1/namespaces/NAMESPACE/{pods,services}/NAME/proxy/...`
/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>
fn is_proxied(path: &str) -> bool {
    path.split('/').nth(7) == Some("proxy")
}

#[cfg(test)]
mod tests {
    use tower::retry::RetryLayer;
    use tower::{ServiceBuilder, ServiceExt};

    use crate::mock::MockServer;

    use super::*;

    /// Sends a request to an API server that always returns 503. Returns the status code of the
    /// answer and the number of requests.
    async fn sent(path: &str) -> (u16, usize) {
        let server = MockServer::new(|_| (503, "busy".into()));
        let client = server.cluster("trii").client().clone();
        let service = ServiceBuilder::new()
            .layer(RetryLayer::new(Retry::default()))
            .map_err(BoxError::from)
            .service_fn(move |request| {
                let client = client.clone();
                async move { client.send(request).await }
            });
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = service.oneshot(request).await.unwrap();
        (answer.status().as_u16(), server.requests().len())
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_api_servers_own_503_is_retried() {
        for (path, requests) in [
            ("/api/v1/namespaces/trii/pods", 4),
            ("/api/v1/namespaces/proxy/pods/proxy", 4),
            (
                "/api/v1/namespaces/trii/pods/a-0:8000/proxy/health/ready",
                1,
            ),
            ("/api/v1/namespaces/trii/services/a:http/proxy/quotes", 1),
        ] {
            assert_eq!(sent(path).await, (503, requests), "{path}");
        }
    }
}
