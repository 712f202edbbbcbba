//! What a Kubernetes API server does with objects, in memory: for the local target, which has no
//! cluster, and for tests.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

pub mod patch;
pub mod store;

use hyper::Method;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use self::patch::Kind;
use self::store::Store;

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub content_type: String,
    /// Null where there is none.
    pub body: Value,
}

/// What a path leads to: `/api/v1/RESOURCE/NAME/...`, `/apis/GROUP/VERSION/...`, or the same
/// with `/namespaces/NAMESPACE` before the resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The path of all objects of its kind, in its namespace.
    pub collection: &'a str,
    pub resource: &'a str,
    /// Empty where all are meant.
    pub name: &'a str,
    pub rest: Vec<&'a str>,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing of this name.
    NotFound(String),
    /// There is something of this name.
    AlreadyExists(String),
    /// It is another one by now.
    Conflict(String),
    /// It makes no sense.
    BadRequest(String),
    /// It is no such object.
    Invalid(String),
}

/// Does what is asked of the objects that `store` keeps as `collection`.
pub fn answer(
    store: &mut Store,
    collection: &str,
    place: &Place<'_>,
    asked: &Asked,
) -> Result<Value, Refusal> {
    let body = &asked.body;
    match (asked.method.as_str(), place.name, place.rest.as_slice()) {
        ("GET", ..) => found(store.list(collection).cloned(), place, asked),
        ("POST", "", []) => store.create(collection, body.clone()),
        ("PUT", name, []) => store.replace(collection, name, body.clone()),
        // One manager states all that it owns each time: nothing is taken away.
        // <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
        ("PATCH", name, []) if asked.content_type == APPLY => match store.get(collection, name) {
            None => store.create(collection, body.clone()),
            Some(_) => store.patch(collection, name, Kind::Merge, body),
        },
        ("PATCH", name, []) => store.patch(collection, name, asked.patch()?, body),
        ("PATCH", name, ["scale"]) => {
            let scaled = store.patch(collection, name, asked.patch()?, body)?;
            let replicas = &scaled["spec"]["replicas"];
            Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": name}, "spec": {"replicas": replicas}}))
        }
        ("DELETE", name, []) => store.delete(collection, name),
        _ => Err(asked.makes_no_sense()),
    }
}

const APPLY: &str = "application/apply-patch+yaml";

/// The one object, or a list of those that are selected.
pub fn found(
    mut all: impl Iterator<Item = Value>,
    place: &Place<'_>,
    asked: &Asked,
) -> Result<Value, Refusal> {
    match (place.name, place.rest.as_slice()) {
        ("", []) => {
            let labels = asked.selector("labelSelector")?;
            let fields = asked.selector("fieldSelector")?;
            let items: Vec<Value> = all.filter(|it| selects(&labels, &fields, it)).collect();
            Ok(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
        }
        (name, []) => {
            let found = all.find(|it| it["metadata"]["name"] == name);
            found.ok_or_else(|| store::not_found(place.resource, name))
        }
        _ => Err(asked.makes_no_sense()),
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

impl Asked {
    pub fn new(head: &Parts, body: &[u8]) -> Result<Asked, Refusal> {
        let body = match body {
            [] => Value::Null,
            body => serde_json::from_slice(body)
                .map_err(|error| Refusal::BadRequest(error.to_string()))?,
        };
        let kind = head.headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
        Ok(Asked {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            content_type: kind.to_owned(),
            body,
        })
    }

    fn patch(&self) -> Result<Kind, Refusal> {
        match self.content_type.as_str() {
            "application/merge-patch+json" => Ok(Kind::Merge),
            "application/strategic-merge-patch+json" => Ok(Kind::Strategic),
            other => Err(Refusal::BadRequest(format!("no patches of type {other:?}"))),
        }
    }

    /// The `key=value` pairs of a selector in the query.
    fn selector(&self, parameter: &str) -> Result<Pairs, Refusal> {
        let mut all = self.query.split('&').filter_map(|it| it.split_once('='));
        let (_, selector) = all.find(|(key, _)| *key == parameter).unwrap_or_default();
        let selector = percent_decode_str(selector).decode_utf8_lossy();
        let pairs = selector.split(',').filter(|it| !it.is_empty());
        pairs
            .map(|pair| match pair.split_once('=') {
                Some((key, value)) if !key.ends_with('!') => Ok((key.into(), value.into())),
                _ => Err(Refusal::BadRequest(format!("no selectors like {pair:?}"))),
            })
            .collect()
    }

    fn makes_no_sense(&self) -> Refusal {
        Refusal::BadRequest(format!("no {} of {}", self.method, self.path))
    }
}

impl Place<'_> {
    pub fn of(path: &str) -> Option<Place<'_>> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let versioned = match *parts.first()? {
            "api" => 2,
            "apis" => 3,
            _ => return None,
        };
        // A namespace is an object, too.
        let is_namespaced = parts.get(versioned) == Some(&"namespaces");
        let at = match is_namespaced && parts.len() > versioned + 2 {
            true => versioned + 2,
            false => versioned,
        };
        let resource = parts.get(at)?;
        let length: usize = parts[..=at].iter().map(|it| it.len() + 1).sum();
        Some(Place {
            collection: &path[..length],
            resource,
            name: parts.get(at + 1).unwrap_or(&""),
            rest: parts.get(at + 2..).unwrap_or_default().to_vec(),
        })
    }
}

impl Refusal {
    /// The status code, and the object that says why.
    pub fn status(&self) -> (u16, Value) {
        let (code, reason, message) = match self {
            Refusal::NotFound(message) => (404, "NotFound", message),
            Refusal::AlreadyExists(message) => (409, "AlreadyExists", message),
            Refusal::Conflict(message) => (409, "Conflict", message),
            Refusal::BadRequest(message) => (400, "BadRequest", message),
            Refusal::Invalid(message) => (422, "Invalid", message),
        };
        (code, status(code, reason, message))
    }
}

/// Why a request failed, as an object.
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "code": code, "reason": reason, "message": message})
}

#[cfg(test)]
mod tests;
