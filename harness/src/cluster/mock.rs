//! An API server for tests, in this process: what a client asks is answered by the test.
//!
//! By [`Objects`], where objects are written and read again. By a closure alone, where a test is
//! about one answer: an error, a page of a log, a rollout look by look. There is nothing to keep
//! then, and what cannot be had from objects that are well formed can be said.

mod objects;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tower::ServiceBuilder;

pub use self::objects::{Fault, Objects};
use super::{Access, Cluster};
pub use crate::api_server::Asked;

pub struct Server {
    client: Client,
    requests: Arc<Mutex<Vec<Asked>>>,
}

/// What is said to a request.
pub enum Answer {
    /// The status code and the object. A string is sent as text, and `x-trii-version` of an
    /// object as that header, too.
    Says(u16, Value),
    /// Nothing, ever.
    Silence,
}

impl From<(u16, Value)> for Answer {
    fn from((code, object): (u16, Value)) -> Answer {
        Answer::Says(code, object)
    }
}

impl Server {
    pub fn new<A: Into<Answer>>(answer: impl Fn(&Asked) -> A + Send + Sync + 'static) -> Server {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move {
                let asked = read(request).await;
                let answer = answer(&asked).into();
                seen.lock().unwrap().push(asked);
                Ok::<_, Infallible>(sent(answer).await)
            }
        });
        Server {
            client: Client::new(service, "default"),
            requests,
        }
    }

    pub fn cluster(&self, namespace: &str) -> Cluster {
        Cluster::behind(self.client.clone(), namespace)
    }

    /// One that is changed as `access` says only.
    pub fn cluster_with(&self, namespace: &str, access: Access) -> Cluster {
        let (client, pass) = (self.client.clone(), access.clone());
        let service = ServiceBuilder::new()
            .filter(move |request: Request<Body>| pass.pass(request))
            .service_fn(move |request: Request<Body>| {
                let client = client.clone();
                async move { client.send(request).await }
            });
        Cluster {
            access,
            ..Cluster::behind(Client::new(service, "default"), namespace)
        }
    }

    pub fn requests(&self) -> Vec<Asked> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read(request: Request<Body>) -> Asked {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Asked::new(&head, &bytes).unwrap()
}

async fn sent(answer: Answer) -> Response<Body> {
    let Answer::Says(code, object) = answer else {
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
