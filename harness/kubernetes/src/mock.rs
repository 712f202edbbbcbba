//! An API server in this process, for tests of this crate and of those above it.
//!
//! A test that writes objects and reads them again answers with [`MockObjects`]. A test of single
//! answers (an error, a log, the states of a rollout) answers with a closure, which can also return
//! malformed objects.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

mod objects;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tower::ServiceBuilder;

pub use self::objects::{Fault, MockObjects};
use super::{Cluster, Permissions};
pub use crate::in_memory_api::ApiRequest;

/// The API server of one test.
pub struct MockServer {
    client: Client,
    requests: Arc<Mutex<Vec<ApiRequest>>>,
}

/// The answer to a request.
pub enum MockAnswer {
    /// The status code and the object. A string is sent as text. The field `x-trii-version` of an
    /// object is also sent as that header.
    Says(u16, Value),
    /// No answer, ever.
    Silence,
}

impl From<(u16, Value)> for MockAnswer {
    fn from((code, object): (u16, Value)) -> MockAnswer {
        MockAnswer::Says(code, object)
    }
}

impl MockServer {
    /// Starts a server that answers each request with `answer`.
    pub fn new<A: Into<MockAnswer>>(
        answer: impl Fn(&ApiRequest) -> A + Send + Sync + 'static,
    ) -> MockServer {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (received, answer) = (Arc::clone(&requests), Arc::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (received, answer) = (Arc::clone(&received), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let request = ApiRequest::new(&head, &body).unwrap();
                let answer = answer(&request).into();
                received.lock().unwrap().push(request);
                Ok::<_, Infallible>(response(answer).await)
            }
        });
        MockServer {
            client: Client::new(service, "default"),
            requests,
        }
    }

    /// Returns a cluster with this API server.
    pub fn cluster(&self, namespace: &str) -> Cluster {
        Cluster::behind(self.client.clone(), namespace)
    }

    /// Returns a cluster with this API server, whose client sends only permitted changes.
    pub fn cluster_with(&self, namespace: &str, permissions: Permissions) -> Cluster {
        let (client, pass) = (self.client.clone(), permissions.clone());
        let service = ServiceBuilder::new()
            .filter(move |request: Request<Body>| pass.pass(request))
            .service_fn(move |request: Request<Body>| {
                let client = client.clone();
                async move { client.send(request).await }
            });
        Cluster {
            permissions,
            ..Cluster::behind(Client::new(service, "default"), namespace)
        }
    }

    /// Returns all requests so far, in order.
    pub fn requests(&self) -> Vec<ApiRequest> {
        self.requests.lock().unwrap().clone()
    }
}

async fn response(answer: MockAnswer) -> Response<Body> {
    let MockAnswer::Says(code, object) = answer else {
        return std::future::pending().await;
    };
    let version = object["x-trii-version"].as_str().map(str::to_owned);
    let text = match object {
        Value::String(text) => text,
        object => object.to_string(),
    };
    let mut response = Response::builder().status(code);
    if let Some(version) = version {
        response = response.header("x-trii-version", version);
    }
    response.body(Body::from(text.into_bytes())).unwrap()
}
