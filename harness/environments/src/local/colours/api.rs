//! The part of the Kubernetes API that a release uses, over HTTP on 127.0.0.1, for clients with the
//! token.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use crate::router::proxy::remove_hop_by_hop;
use base::listener::accepted;
use kubernetes::in_memory_api::{self, ApiRefusal, ApiRequest, ObjectPath};

/// The resources that clients may write. Others follow from them.
const WRITTEN: [&str; 4] = ["services", "deployments", "configmaps", "leases"];

/// The timeout of a proxied request, longer than clients wait.
const PROXY_TIMEOUT: Duration = Duration::from_secs(30);

type Answer = Response<Full<Bytes>>;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = accepted(&listener).await;
        shared.spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let answer = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    // The client notices a broken connection itself.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let expected = format!("Bearer {}", shared.token);
    let token = head.headers.get(AUTHORIZATION);
    if token.is_none_or(|it| it.as_bytes() != expected.as_bytes()) {
        return status(401, "Unauthorized", "the kubeconfig has the token");
    }
    let Ok(body) = body.collect().await else {
        return status(400, "BadRequest", "the request is incomplete");
    };
    let (path, body) = (head.uri.path(), body.to_bytes());
    let Some(place) = ObjectPath::of(path) else {
        return status(404, "NotFound", &format!("{path} is not served here"));
    };
    match (place.resource, place.rest.split_first()) {
        ("pods" | "services", Some((&"proxy", rest))) => {
            proxied(shared, &place, &rest.join("/"), &head, body).await
        }
        ("pods", Some((&"log", []))) => log(shared, place.name, &head).await,
        _ => match of_objects(shared, &place, &head, &body) {
            Ok(object) => object_with(200, &object),
            Err(refusal) => refused(&refusal),
        },
    }
}

fn of_objects(
    shared: &Arc<Shared>,
    place: &ObjectPath<'_>,
    head: &Parts,
    body: &[u8],
) -> Result<Value, ApiRefusal> {
    let request = ApiRequest::new(head, body)?;
    let resource = place.resource;
    let mut cluster = shared.cluster();
    let Some(all) = cluster.list(resource) else {
        return Err(ApiRefusal::NotFound(format!(
            "{resource} are not served here"
        )));
    };
    if request.method == Method::GET {
        return in_memory_api::found(all.into_iter(), place, &request);
    }
    if !WRITTEN.contains(&resource) {
        let method = request.method;
        return Err(ApiRefusal::BadRequest(format!(
            "{resource} are read-only: no {method}"
        )));
    }
    let answered = in_memory_api::answer(&mut cluster.store, resource, place, &request);
    drop(cluster);
    shared.settle();
    answered
}

/// Forwards a request to a pod or a Service. Ports are named as in a cluster.
/// <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>
async fn proxied(
    shared: &Shared,
    place: &ObjectPath<'_>,
    path: &str,
    head: &Parts,
    body: Bytes,
) -> Answer {
    let named = place.name.trim_start_matches("http:");
    let (name, port) = named.split_once(':').unwrap_or((named, "http"));
    let address = match place.resource {
        "pods" => shared
            .cluster()
            .pod(name)
            .and_then(|it| it.port(port, it.listening()?)),
        _ => {
            let endpoints = shared.cluster().backends.get(name).cloned();
            endpoints.and_then(|it| it.http.next())
        }
    };
    let Some(address) = address else {
        let why = format!("no endpoints available for {name}");
        return status(503, "ServiceUnavailable", &why);
    };
    let query = head.uri.query().map(|it| format!("?{it}"));
    let query = query.unwrap_or_default();
    let url = format!("http://{address}/{path}{query}");
    let request = shared.http.request(head.method.clone(), url);
    let mut request = request.timeout(PROXY_TIMEOUT).body(body);
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        request = request.header(CONTENT_TYPE, kind);
    }
    match forwarded(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let why = format!("error trying to reach service: {}", base::chain(&error));
            status(503, "ServiceUnavailable", &why)
        }
    }
}

async fn forwarded(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let answer = request.send().await?;
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    remove_hop_by_hop(&mut headers);
    // hyper sets the length.
    headers.remove(CONTENT_LENGTH);
    let mut forwarded = Response::new(Full::new(answer.bytes().await?));
    *forwarded.status_mut() = status;
    *forwarded.headers_mut() = headers;
    Ok(forwarded)
}

/// The last lines of a pod's log.
async fn log(shared: &Shared, pod: &str, head: &Parts) -> Answer {
    if shared.cluster().pod(pod).is_none() {
        return refused(&ApiRefusal::NotFound(format!("pods {pod:?} not found")));
    }
    let query = head.uri.query().unwrap_or_default();
    let parameters = query.split('&').filter_map(|it| it.split_once('='));
    let mut tail = parameters.filter(|(key, _)| *key == "tailLines");
    let tail = tail.next().and_then(|(_, value)| value.parse().ok());
    let text = tokio::fs::read_to_string(shared.log(pod)).await;
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(tail.unwrap_or(usize::MAX));
    Response::new(Full::new(lines[from..].join("\n").into()))
}

fn refused(refusal: &ApiRefusal) -> Answer {
    let (code, status) = refusal.status();
    object_with(code, &status)
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    object_with(code, &in_memory_api::status(code, reason, message))
}

fn object_with(code: u16, object: &Value) -> Answer {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = Response::new(Full::new(object.to_string().into()));
    *answer.status_mut() = code;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

#[cfg(test)]
mod tests;
