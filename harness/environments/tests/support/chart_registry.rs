//! A registry with one chart on 127.0.0.1, for which helm uses plain HTTP.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::oci::{MANIFEST, descriptor, digest};

const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// The part of the OCI distribution specification that a pull needs. It ends when dropped.
pub struct ChartRegistry {
    /// `127.0.0.1:PORT`.
    pub address: String,
    requests: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

/// What the registry has: the path of each resource, its type and its content.
type Contents = Vec<(String, &'static str, Vec<u8>)>;

impl ChartRegistry {
    /// Serves a packaged chart as `charts/NAME:VERSION`. With `private`, only after a login.
    pub async fn with(chart: &Path, name: &str, version: &str, private: bool) -> ChartRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let contents = Arc::new(contents(std::fs::read(chart).unwrap(), name, version));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (contents, log) = (contents.clone(), log.clone());
                let service = service_fn(move |request| {
                    let answer = answer(&request, &contents, private);
                    let line = format!("{} {}", request.method(), request.uri().path());
                    log.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(line);
                    std::future::ready(Ok::<_, Infallible>(answer))
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        ChartRegistry {
            address,
            requests,
            server,
        }
    }

    /// Returns the requests until now.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it: from then on nothing listens.
    pub async fn end(mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }
}

impl Drop for ChartRegistry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The blobs and the manifest of a chart: <https://helm.sh/blog/helm-oci-mediatypes/>
fn contents(chart: Vec<u8>, name: &str, version: &str) -> Contents {
    let config = json!({"apiVersion": "v2", "name": name, "version": version});
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(CHART, &chart)],
    });
    let manifest = manifest.to_string().into_bytes();
    let blob = |content: &[u8]| format!("/v2/charts/{name}/blobs/{}", digest(content));
    let manifest_of = |reference: &str| format!("/v2/charts/{name}/manifests/{reference}");
    vec![
        ("/v2/".to_owned(), "application/json", b"{}".to_vec()),
        (blob(&config), CONFIG, config),
        (blob(&chart), CHART, chart),
        (manifest_of(&digest(&manifest)), MANIFEST, manifest.clone()),
        (manifest_of(version), MANIFEST, manifest),
    ]
}

fn answer<T>(request: &Request<T>, contents: &Contents, private: bool) -> Response<Full<Bytes>> {
    if private && !request.headers().contains_key(AUTHORIZATION) {
        let mut refusal = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        let challenge = HeaderValue::from_static("Basic realm=\"charts\"");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return refusal;
    }
    let path = request.uri().path();
    let found = contents.iter().find(|(it, ..)| it == path);
    let Some((_, kind, content)) = found else {
        return error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    };
    assert!([Method::GET, Method::HEAD].contains(request.method()));
    let found = Response::builder()
        .header(CONTENT_TYPE, *kind)
        .header("docker-content-digest", digest(content));
    found.body(Full::from(content.clone())).unwrap()
}

fn error(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    let body = json!({"errors": [{"code": code, "message": code.to_lowercase()}]});
    let refusal = Response::builder().status(status);
    let refusal = refusal.header(CONTENT_TYPE, "application/json");
    refusal.body(Full::from(body.to_string())).unwrap()
}
