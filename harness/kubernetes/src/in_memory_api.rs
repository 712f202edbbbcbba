//! An API server's operations on objects, in memory. They serve the local target, which has no
//! cluster, and tests.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

pub mod patch;
pub mod store;

use hyper::Method;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use self::patch::PatchKind;
use self::store::Store;

/// A request to the API server.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// Its method.
    pub method: Method,
    /// Its path, without the query.
    pub path: String,
    /// What follows `?`; may be empty.
    pub query: String,
    /// The media type of its body; of a patch, its kind.
    pub content_type: String,
    /// Null if there is none.
    pub body: Value,
}

/// The objects of a path: `/api/v1/RESOURCE/NAME/...`, `/apis/GROUP/VERSION/...`, or the same
/// with `/namespaces/NAMESPACE` before the resource.
#[derive(Debug, PartialEq, Eq)]
pub struct ObjectPath<'a> {
    /// The path of all objects of the kind in the namespace.
    pub collection: &'a str,
    /// The plural name of the kind, e.g. `services`.
    pub resource: &'a str,
    /// The name; empty for all objects.
    pub name: &'a str,
    /// The segments after the name, e.g. a subresource.
    pub rest: Vec<&'a str>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRefusal {
    /// No object has this name.
    NotFound(String),
    /// An object has this name.
    AlreadyExists(String),
    /// The object has changed since it was read.
    Conflict(String),
    /// The request is malformed, or is not supported.
    BadRequest(String),
    /// The object is invalid.
    Invalid(String),
}

/// Carries out a request for the objects of `collection` in `store`.
pub fn answer(
    store: &mut Store,
    collection: &str,
    place: &ObjectPath<'_>,
    request: &ApiRequest,
) -> Result<Value, ApiRefusal> {
    let body = &request.body;
    match (request.method.as_str(), place.name, place.rest.as_slice()) {
        ("GET", ..) => found(store.list(collection).cloned(), place, request),
        ("POST", "", []) => store.create(collection, body.clone()),
        ("PUT", name, []) => store.replace(collection, name, body.clone()),
        // A manager applies all its fields each time, so that a merge need not remove any.
        // <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
        ("PATCH", name, []) if request.content_type == APPLY => match store.get(collection, name) {
            None => store.create(collection, body.clone()),
            Some(_) => store.patch(collection, name, PatchKind::Merge, body),
        },
        ("PATCH", name, []) => store.patch(collection, name, request.patch()?, body),
        ("PATCH", name, ["scale"]) => {
            let scaled = store.patch(collection, name, request.patch()?, body)?;
            let replicas = &scaled["spec"]["replicas"];
            Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": name}, "spec": {"replicas": replicas}}))
        }
        ("DELETE", name, []) => store.delete(collection, name),
        _ => Err(request.unsupported()),
    }
}

const APPLY: &str = "application/apply-patch+yaml";

/// Returns the named object, or the list of the selected ones.
pub fn found(
    mut all: impl Iterator<Item = Value>,
    place: &ObjectPath<'_>,
    request: &ApiRequest,
) -> Result<Value, ApiRefusal> {
    match (place.name, place.rest.as_slice()) {
        ("", []) => {
            let labels = request.selector("labelSelector")?;
            let fields = request.selector("fieldSelector")?;
            let items: Vec<Value> = all.filter(|it| selects(&labels, &fields, it)).collect();
            Ok(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
        }
        (name, []) => {
            let found = all.find(|it| it["metadata"]["name"] == name);
            found.ok_or_else(|| store::not_found(place.resource, name))
        }
        _ => Err(request.unsupported()),
    }
}

type Pairs = Vec<(String, String)>;

fn selects(labels: &Pairs, fields: &Pairs, object: &Value) -> bool {
    let field = |path: &str| object.pointer(&format!("/{}", path.replace('.', "/")));
    let has_labels = labels
        .iter()
        .all(|(key, value)| object["metadata"]["labels"][key] == **value);
    let has_fields = fields
        .iter()
        .all(|(path, value)| field(path).is_some_and(|it| *it == **value));
    has_labels && has_fields
}

impl ApiRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// [`ApiRefusal::BadRequest`] if its body is not JSON.
    pub fn new(head: &Parts, body: &[u8]) -> Result<ApiRequest, ApiRefusal> {
        let body = match body {
            [] => Value::Null,
            body => serde_json::from_slice(body)
                .map_err(|error| ApiRefusal::BadRequest(error.to_string()))?,
        };
        let kind = head.headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
        Ok(ApiRequest {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            content_type: kind.to_owned(),
            body,
        })
    }

    fn patch(&self) -> Result<PatchKind, ApiRefusal> {
        match self.content_type.as_str() {
            "application/merge-patch+json" => Ok(PatchKind::Merge),
            "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
            other => Err(ApiRefusal::BadRequest(format!(
                "no patches of type {other:?}"
            ))),
        }
    }

    /// The `key=value` pairs of a selector in the query.
    fn selector(&self, parameter: &str) -> Result<Pairs, ApiRefusal> {
        let mut all = self.query.split('&').filter_map(|it| it.split_once('='));
        let (_, selector) = all.find(|(key, _)| *key == parameter).unwrap_or_default();
        let selector = percent_decode_str(selector).decode_utf8_lossy();
        let pairs = selector.split(',').filter(|it| !it.is_empty());
        pairs
            .map(|pair| match pair.split_once('=') {
                Some((key, value)) if !key.ends_with('!') => Ok((key.into(), value.into())),
                _ => Err(ApiRefusal::BadRequest(format!(
                    "no selectors like {pair:?}"
                ))),
            })
            .collect()
    }

    fn unsupported(&self) -> ApiRefusal {
        ApiRefusal::BadRequest(format!("no {} of {}", self.method, self.path))
    }
}

impl ObjectPath<'_> {
    /// Parses a path. Returns none if it names no resource.
    pub fn of(path: &str) -> Option<ObjectPath<'_>> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let versioned = match *parts.first()? {
            "api" => 2,
            "apis" => 3,
            _ => return None,
        };
        // `/namespaces/NAME` alone is the object itself.
        let is_namespaced = parts.get(versioned) == Some(&"namespaces");
        let at = match is_namespaced && parts.len() > versioned + 2 {
            true => versioned + 2,
            false => versioned,
        };
        let resource = parts.get(at)?;
        let length: usize = parts[..=at].iter().map(|it| it.len() + 1).sum();
        Some(ObjectPath {
            collection: &path[..length],
            resource,
            name: parts.get(at + 1).unwrap_or(&""),
            rest: parts.get(at + 2..).unwrap_or_default().to_vec(),
        })
    }
}

impl ApiRefusal {
    /// Returns the status code and the Status object.
    pub fn status(&self) -> (u16, Value) {
        let (code, reason, message) = match self {
            ApiRefusal::NotFound(message) => (404, "NotFound", message),
            ApiRefusal::AlreadyExists(message) => (409, "AlreadyExists", message),
            ApiRefusal::Conflict(message) => (409, "Conflict", message),
            ApiRefusal::BadRequest(message) => (400, "BadRequest", message),
            ApiRefusal::Invalid(message) => (422, "Invalid", message),
        };
        (code, status(code, reason, message))
    }
}

/// Returns the Status object of a failed request.
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "code": code, "reason": reason, "message": message})
}

#[cfg(test)]
mod tests;
