//! The part of the Kubernetes API that a release uses, over HTTP on 127.0.0.1, for whoever has
//! the token.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use super::patch::Kind;
use super::store::Refusal;
use super::world::World;
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
    let asked = Asked {
        method: head.method,
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: head.headers.get(CONTENT_TYPE).cloned(),
        body: body.to_bytes(),
    };
    let path = head.uri.path();
    let Some(place) = Place::of(path) else {
        return status(404, "NotFound", &format!("{path} is not served here"));
    };
    match (place.resource, place.rest.split_first()) {
        ("pods" | "services", Some((&"proxy", rest))) => {
            proxied(shared, &place, &rest.join("/"), asked).await
        }
        ("pods", Some((&"log", []))) => log(shared, place.name, &asked).await,
        _ => {
            let answered = of_objects(&mut shared.world(), &place, &asked);
            if asked.method != Method::GET {
                shared.settle();
            }
            match answered {
                Ok(object) => object_of(StatusCode::OK, &object),
                Err(refusal) => refused(&refusal),
            }
        }
    }
}

/// A request, its path aside.
struct Asked {
    method: Method,
    query: String,
    content_type: Option<HeaderValue>,
    body: Bytes,
}

/// `/api/v1/namespaces/NAMESPACE/RESOURCE/NAME/...`, or `/apis/GROUP/VERSION/namespaces/...`.
struct Place<'a> {
    resource: &'a str,
    /// Empty where all are meant.
    name: &'a str,
    rest: Vec<&'a str>,
}

impl Place<'_> {
    fn of(path: &str) -> Option<Place<'_>> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let versions = match parts.next()? {
            "api" => 1,
            "apis" => 2,
            _ => return None,
        };
        let mut parts = parts.skip(versions);
        if parts.next()? != "namespaces" {
            return None;
        }
        Some(Place {
            resource: parts.nth(1)?,
            name: parts.next().unwrap_or_default(),
            rest: parts.collect(),
        })
    }
}

impl Asked {
    fn json(&self) -> Result<Value, Refusal> {
        let read = serde_json::from_slice(&self.body);
        read.map_err(|error| Refusal::BadRequest(error.to_string()))
    }

    fn patch(&self) -> Result<Kind, Refusal> {
        let kind = self.content_type.as_ref().and_then(|it| it.to_str().ok());
        match kind.unwrap_or_default() {
            "application/merge-patch+json" => Ok(Kind::Merge),
            "application/strategic-merge-patch+json" => Ok(Kind::Strategic),
            other => Err(Refusal::BadRequest(format!("no patches of type {other:?}"))),
        }
    }

    /// `key=value` pairs of a selector in the query.
    fn selector(&self, parameter: &str) -> Vec<(String, String)> {
        let all = self.query.split('&').filter_map(|it| it.split_once('='));
        let (_, selector) = all
            .clone()
            .find(|(key, _)| *key == parameter)
            .unwrap_or_default();
        let selector = percent_decode_str(selector).decode_utf8_lossy();
        let pairs = selector.split(',').filter_map(|it| it.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn selects(&self, object: &Value) -> bool {
        let labels = self.selector("labelSelector");
        let fields = self.selector("fieldSelector");
        let field = |path: &str| object.pointer(&format!("/{}", path.replace('.', "/")));
        labels
            .iter()
            .all(|(key, value)| object["metadata"]["labels"][key] == **value)
            && fields
                .iter()
                .all(|(path, value)| field(path).is_some_and(|it| *it == **value))
    }
}

fn of_objects(world: &mut World, place: &Place<'_>, asked: &Asked) -> Result<Value, Refusal> {
    let (resource, name) = (place.resource, place.name);
    if world.list(resource).is_none() {
        return Err(Refusal::NotFound(format!("{resource} are not served here")));
    }
    match (asked.method.as_str(), name, place.rest.as_slice()) {
        (method, ..) if method != "GET" && !WRITTEN.contains(&resource) => {
            Err(Refusal::BadRequest(format!(
                "{resource} follow from others: no {method} of them"
            )))
        }
        ("GET", "", []) => {
            let all = world.list(resource).into_iter().flatten();
            let items: Vec<Value> = all.filter(|it| asked.selects(it)).collect();
            Ok(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
        }
        ("GET", name, []) => {
            let mut all = world.list(resource).into_iter().flatten();
            let found = all.find(|it| it["metadata"]["name"] == name);
            found.ok_or_else(|| Refusal::NotFound(format!("{resource} {name:?} not found")))
        }
        ("POST", "", []) => world.store.create(resource, asked.json()?),
        ("PUT", name, []) => world.store.replace(resource, name, asked.json()?),
        ("PATCH", name, []) => {
            let (kind, patch) = (asked.patch()?, asked.json()?);
            world.store.patch(resource, name, kind, &patch)
        }
        ("PATCH", name, ["scale"]) => {
            let (kind, patch) = (asked.patch()?, asked.json()?);
            let scaled = world.store.patch(resource, name, kind, &patch)?;
            let replicas = &scaled["spec"]["replicas"];
            Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": name}, "spec": {"replicas": replicas}}))
        }
        ("DELETE", name, []) => world.store.delete(resource, name),
        (method, ..) => Err(Refusal::BadRequest(format!("no {method} of {resource}"))),
    }
}

/// A pod or a Service asked on whoever's behalf. Ports are given as in a cluster.
/// <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>
async fn proxied(shared: &Shared, place: &Place<'_>, path: &str, asked: Asked) -> Answer {
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
    let query = match asked.query.as_str() {
        "" => String::new(),
        query => format!("?{query}"),
    };
    let mut request = shared
        .http
        .request(asked.method, format!("http://{address}/{path}{query}"))
        .timeout(PROXIED)
        .body(asked.body);
    if let Some(kind) = asked.content_type {
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
async fn log(shared: &Shared, pod: &str, asked: &Asked) -> Answer {
    if shared.world().pod(pod).is_none() {
        return refused(&Refusal::NotFound(format!("pods {pod:?} not found")));
    }
    let parameters = asked.query.split('&').filter_map(|it| it.split_once('='));
    let mut tail = parameters.filter(|(key, _)| *key == "tailLines");
    let tail = tail.next().and_then(|(_, value)| value.parse().ok());
    let text = tokio::fs::read_to_string(shared.log(pod)).await;
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(tail.unwrap_or(usize::MAX));
    Response::new(Full::new(lines[from..].join("\n").into()))
}

fn refused(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::NotFound(message) => status(404, "NotFound", message),
        Refusal::AlreadyExists(message) => status(409, "AlreadyExists", message),
        Refusal::Conflict(message) => status(409, "Conflict", message),
        Refusal::BadRequest(message) => status(400, "BadRequest", message),
    }
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    let object = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "code": code, "reason": reason, "message": message});
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    object_of(code, &object)
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
