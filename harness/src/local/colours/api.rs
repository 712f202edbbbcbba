//! The part of the Kubernetes API that a release uses, over HTTP on 127.0.0.1, for whoever has
//! the token.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use crate::api_server::{self, Asked, Place, Refusal};
use crate::router::accepted;

/// What can be written; the rest follows from it.
const WRITTEN: [&str; 4] = ["services", "deployments", "configmaps", "leases"];

/// Passed on to a pod or a Service: longer than whoever asks waits.
const PROXIED: Duration = Duration::from_secs(30);

type Answer = Response<Full<Bytes>>;

/// Answers whoever connects.
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
    // Whoever asked sees for himself how it broke.
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
        return status(400, "BadRequest", "the request broke off");
    };
    let (path, body) = (head.uri.path(), body.to_bytes());
    let Some(place) = Place::of(path) else {
        return status(404, "NotFound", &format!("{path} is not served here"));
    };
    match (place.resource, place.rest.split_first()) {
        ("pods" | "services", Some((&"proxy", rest))) => {
            proxied(shared, &place, &rest.join("/"), &head, body).await
        }
        ("pods", Some((&"log", []))) => log(shared, place.name, &head).await,
        _ => match of_objects(shared, &place, &head, &body) {
            Ok(object) => object_of(StatusCode::OK, &object),
            Err(refusal) => refused(&refusal),
        },
    }
}

fn of_objects(
    shared: &Arc<Shared>,
    place: &Place<'_>,
    head: &Parts,
    body: &[u8],
) -> Result<Value, Refusal> {
    let asked = Asked::new(head, body)?;
    let resource = place.resource;
    let mut world = shared.world();
    let Some(all) = world.list(resource) else {
        return Err(Refusal::NotFound(format!("{resource} are not served here")));
    };
    if asked.method == Method::GET {
        return api_server::found(all.into_iter(), place, &asked);
    }
    if !WRITTEN.contains(&resource) {
        let method = asked.method;
        return Err(Refusal::BadRequest(format!(
            "{resource} follow from others: no {method} of them"
        )));
    }
    let answered = api_server::answer(&mut world.store, resource, place, &asked);
    drop(world);
    shared.settle();
    answered
}

/// A pod or a Service asked on whoever's behalf. Ports are given as in a cluster.
/// <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>
async fn proxied(
    shared: &Shared,
    place: &Place<'_>,
    path: &str,
    head: &Parts,
    body: Bytes,
) -> Answer {
    let named = place.name.trim_start_matches("http:");
    let (name, port) = named.split_once(':').unwrap_or((named, "http"));
    let address = match place.resource {
        "pods" => shared
            .world()
            .pod(name)
            .and_then(|it| it.port(port, it.listening()?)),
        _ => {
            let behind = shared.world().backends.get(name).cloned();
            behind.and_then(|it| it.http.next())
        }
    };
    let Some(address) = address else {
        return status(
            503,
            "ServiceUnavailable",
            &format!("nobody answers for {name}"),
        );
    };
    let query = head.uri.query().map(|it| format!("?{it}"));
    let query = query.unwrap_or_default();
    let mut request = shared
        .http
        .request(
            head.method.clone(),
            format!("http://{address}/{path}{query}"),
        )
        .timeout(PROXIED)
        .body(body);
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        request = request.header(CONTENT_TYPE, kind);
    }
    match passed_on(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let why = format!("error trying to reach service: {}", crate::chain(&error));
            status(503, "ServiceUnavailable", &why)
        }
    }
}

async fn passed_on(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let answer = request.send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut passed = Response::new(Full::new(answer.bytes().await?));
    *passed.status_mut() = status;
    // Lengths are the body's to tell.
    let of_content = |name: &str| name.starts_with("x-trii-") || name == "content-type";
    let kept = headers.iter().filter(|(name, _)| of_content(name.as_str()));
    for (name, value) in kept {
        passed.headers_mut().insert(name, value.clone());
    }
    Ok(passed)
}

/// The last lines of a pod's log.
async fn log(shared: &Shared, pod: &str, head: &Parts) -> Answer {
    if shared.world().pod(pod).is_none() {
        return refused(&Refusal::NotFound(format!("pods {pod:?} not found")));
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

fn refused(refusal: &Refusal) -> Answer {
    let (code, status) = refusal.status();
    object_with(code, &status)
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    object_with(code, &api_server::status(code, reason, message))
}

fn object_with(code: u16, object: &Value) -> Answer {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    object_of(code, object)
}

fn object_of(code: StatusCode, object: &Value) -> Answer {
    let mut answer = Response::new(Full::new(object.to_string().into()));
    *answer.status_mut() = code;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

#[cfg(test)]
mod tests;
