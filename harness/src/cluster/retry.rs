//! What is asked again when the API server is too busy for it.

use hyper::{Request, Response};
use kube::client::Body;
use kube::client::retry::RetryPolicy;
use tower::BoxError;
use tower::retry::Policy;

/// kube's own policy for what the API server itself answers. An answer of a pod or a Service
/// that came through its proxy is that one's word, 503 too, and is taken as it is.
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

    /// One that cannot be copied is not made again.
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

    use crate::cluster::mock::Server;

    use super::*;

    /// How often an API server is asked that says 503 to all.
    async fn asked(path: &str) -> (u16, usize) {
        let server = Server::new(|_| (503, "busy".into()));
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
    async fn the_api_servers_own_503_is_asked_again() {
        let pods = "/api/v1/namespaces/trii/pods";
        assert_eq!(asked(pods).await, (503, 4));
        assert_eq!(asked("/api/v1/namespaces/proxy/pods/proxy").await, (503, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn that_of_a_pod_or_a_service_is_taken_at_its_word() {
        let pod = "/api/v1/namespaces/trii/pods/market-data-0:8000/proxy/health/ready";
        assert_eq!(asked(pod).await, (503, 1));
        let service = "/api/v1/namespaces/trii/services/market-data:http/proxy/quotes";
        assert_eq!(asked(service).await, (503, 1));
    }
}
