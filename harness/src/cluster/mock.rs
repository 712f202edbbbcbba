//! An API server that says what a test wants it to.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tower::ServiceBuilder;

use super::{Access, Cluster};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
}

pub struct Server {
    client: Client,
    requests: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// One that answers with the status code and the object that `answer` gives;
    /// a string is sent as text, and `x-trii-version` of an object as that header, too.
    pub fn new(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Server {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move {
                let asked = read(request).await;
                let (code, object) = answer(&asked);
                seen.lock().unwrap().push(asked);
                let version = object["x-trii-version"].as_str().map(str::to_owned);
                let text = match object {
                    Value::String(text) => text,
                    object => object.to_string(),
                };
                let mut response = Response::builder().status(code);
                if let Some(version) = version {
                    response = response.header("x-trii-version", version);
                }
                Ok::<_, Infallible>(response.body(Body::from(text.into_bytes())).unwrap())
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
    Asked {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    }
}
