//! An API server with one service on two colours. Its pods are ready as soon as they are
//! wanted, unless a test says otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::super::Colour;
use super::super::objects::{LIVE, ROLE, VERSION};
use crate::cluster::Cluster;
use crate::cluster::mock::{Asked, Server};

pub const SERVICE: &str = "quotes";

/// What the cluster is like.
#[derive(Debug)]
pub struct State {
    /// The track that each Service selects; none where there is none in its selector.
    pub active: Option<Colour>,
    pub preview: Colour,
    pub sides: BTreeMap<&'static str, FakeSide>,
    /// Other objects, by their path.
    pub kept: BTreeMap<String, Value>,
    pub quota: Option<Value>,
    pub services_beside: Vec<Value>,
    /// By colour, what scales it.
    pub scalers: BTreeMap<&'static str, FakeScaler>,
    /// What each pod has answered so far.
    pub traffic: BTreeMap<String, Answered>,
    /// Traffic that each look at the metrics adds to the live version: requests, failures.
    pub each_look: (u64, u64),
    /// Whether those take 300 ms; else 5 ms.
    pub slow: bool,
    /// Beside each two of them one is not answered: its client gives up, or waits.
    pub swallows: Option<bool>,
    /// As many requests to come are answered with 503.
    pub away: u32,
    /// Until then every request is.
    pub away_until: Option<tokio::time::Instant>,
    /// Whether readiness probes are not over HTTP.
    pub probed_otherwise: bool,
    /// As many requests to Services to come break off.
    pub smoke_breaks: u32,
    /// Whether a Lease may be written.
    pub takes_leases: bool,
    pub resource_version: u64,
    /// Paths of patches, in their order.
    pub patched: Vec<String>,
    /// How many requests the ingress answers by itself between two looks, from the switch on.
    pub refuses: u64,
    refused: u64,
}

/// An autoscaler.
#[derive(Clone, Copy, Debug)]
pub struct FakeScaler {
    pub least: i32,
    pub desired: i32,
    /// What its annotation remembers.
    pub before: Option<i32>,
}

/// What a pod has answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    requests: u64,
    failed: u64,
    slow: u64,
    given_up: u64,
    in_flight: u64,
}

#[derive(Clone, Debug)]
pub struct FakeSide {
    pub replicas: i32,
    pub tag: String,
    pub live: bool,
    /// How many of its pods were killed; each has a successor.
    pub killed: i32,
    /// What its pods wait for instead of running.
    pub waiting: Option<(&'static str, &'static str)>,
    /// What its pods have as environment, beside its version.
    pub configuration: &'static str,
    /// The status that its last pod answers health checks with.
    pub last_says: u16,
}

impl FakeSide {
    fn of(tag: &str, replicas: i32) -> FakeSide {
        FakeSide {
            replicas,
            tag: tag.to_owned(),
            live: replicas > 0,
            killed: 0,
            waiting: None,
            configuration: "a",
            last_says: 200,
        }
    }
}

impl State {
    pub fn side(&mut self, colour: Colour) -> &mut FakeSide {
        self.sides.get_mut(colour.name()).unwrap()
    }

    /// Its autoscaler finds a colour idle.
    pub fn shrink(&mut self, colour: Colour) {
        let least = self.scalers[colour.name()].least;
        let side = self.side(colour);
        side.replicas = side.replicas.min(least);
    }

    /// A pod answers so many requests, so many of them with an error.
    pub fn answers(&mut self, colour: Colour, number: i32, requests: u64, failed: u64) {
        let pod = format!("http:{SERVICE}-{colour}-1-{number}:9090");
        let counted = self.traffic.entry(pod).or_default();
        counted.requests += requests;
        counted.failed += failed;
    }

    fn step(&mut self) -> String {
        self.resource_version += 1;
        self.resource_version.to_string()
    }
}

/// The server, and what it is like.
pub struct Fake {
    pub cluster: Cluster,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Blue is live in v1 with two pods.
    pub fn new() -> Fake {
        let state = State {
            active: Some(Colour::Blue),
            preview: Colour::Green,
            sides: BTreeMap::from([
                ("blue", FakeSide::of("v1", 2)),
                ("green", FakeSide::of("v0", 0)),
            ]),
            kept: BTreeMap::new(),
            quota: None,
            services_beside: Vec::new(),
            scalers: BTreeMap::new(),
            probed_otherwise: false,
            smoke_breaks: 0,
            takes_leases: true,
            traffic: BTreeMap::new(),
            each_look: (200, 0),
            slow: false,
            swallows: None,
            away: 0,
            away_until: None,
            resource_version: 1,
            patched: Vec::new(),
            refuses: 0,
            refused: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = Server::new(move |asked| answer(&mut shared.lock().unwrap(), asked));
        Fake {
            cluster: server.cluster("trii"),
            state,
        }
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }
}

fn status(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "code": code, "message": message, "reason": reason});
    (code, status)
}

fn list(items: Vec<Value>) -> (u16, Value) {
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
    (200, list)
}

fn answer(state: &mut State, asked: &Asked) -> (u16, Value) {
    let now = tokio::time::Instant::now();
    if state.away_until.is_some_and(|end| now < end) {
        return status(503, "etcd is away");
    }
    if state.away > 0 {
        state.away -= 1;
        return status(503, "etcd is away");
    }
    if asked.method == "PATCH" {
        state.patched.push(asked.path.clone());
    }
    if asked.path.contains("/namespaces/edge/") {
        return ingress(state, asked);
    }
    let path = asked.path.clone();
    let parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
    let after = parts
        .iter()
        .position(|it| *it == "trii")
        .map_or(0, |at| at + 1);
    match &parts[after..] {
        ["services"] => services(state),
        ["services", name] => service(state, name, asked),
        ["deployments"] => list(selected(asked).map(|it| deployment(state, it)).collect()),
        ["deployments", name] => one_deployment(state, name, asked),
        ["deployments", name, "scale"] => scale(state, name, asked),
        ["replicasets"] => list(selected(asked).map(|it| replica_set(state, it)).collect()),
        ["jobs"] => list(Vec::new()),
        ["pods"] => list(selected(asked).flat_map(|it| pods(state, it)).collect()),
        ["pods", pod, "proxy", rest @ ..] => proxied(state, pod, rest),
        ["endpointslices"] => endpoints(state, asked),
        ["horizontalpodautoscalers", ..] => autoscalers(state, asked),
        ["resourcequotas"] => list(state.quota.iter().cloned().collect()),
        ["leases", ..] if asked.method == "PUT" && !state.takes_leases => {
            status(500, "the disk is full")
        }
        ["configmaps" | "leases", ..] => kept(state, asked),
        ["services", name, "proxy", ..] => smoked(state, name),
        _ => status(400, &format!("{} {}", asked.method, asked.path)),
    }
}

/// The colours that a label selector selects.
fn selected(asked: &Asked) -> impl Iterator<Item = Colour> + use<> {
    let query = asked.query.clone();
    Colour::ALL
        .into_iter()
        .filter(move |it| query.contains(it.name()))
}

fn labels(colour: Option<Colour>) -> Value {
    let mut labels = json!({"app.kubernetes.io/name": SERVICE});
    if let Some(colour) = colour {
        labels["trii.co/track"] = json!(colour.name());
    }
    labels
}

fn a_service(state: &State, name: &str) -> Option<Value> {
    let (role, colour) = match name {
        "quotes" => ("active", state.active),
        "quotes-preview" => ("preview", Some(state.preview)),
        _ => return None,
    };
    Some(json!({
        "metadata": {"name": name, "labels": {ROLE: role},
            "resourceVersion": state.resource_version.to_string()},
        "spec": {"selector": labels(colour)},
    }))
}

fn services(state: &State) -> (u16, Value) {
    let ours = ["quotes", "quotes-preview"].into_iter();
    let ours = ours.filter_map(|name| a_service(state, name));
    list(ours.chain(state.services_beside.clone()).collect())
}

fn service(state: &mut State, name: &str, asked: &Asked) -> (u16, Value) {
    if asked.method == "PATCH" {
        if is_stale(state, asked) {
            return status(409, "the object has been modified");
        }
        let track = asked.body["spec"]["selector"]["trii.co/track"].as_str();
        let colour = Colour::ALL.into_iter().find(|it| Some(it.name()) == track);
        match name {
            "quotes" => state.active = colour,
            _ => state.preview = colour.unwrap(),
        }
        state.step();
    }
    match a_service(state, name) {
        Some(service) => (200, service),
        None => status(404, "no such Service"),
    }
}

/// Whether it is of an object that is another one by now.
fn is_stale(state: &State, asked: &Asked) -> bool {
    let expected = asked.body["metadata"]["resourceVersion"].as_str();
    expected.is_some_and(|it| it != state.resource_version.to_string())
}

fn deployment(state: &State, colour: Colour) -> Value {
    let side = &state.sides[colour.name()];
    let ready = if side.waiting.is_some() {
        0
    } else {
        side.replicas
    };
    let mut pod_labels = labels(Some(colour));
    pod_labels[VERSION] = json!(side.tag);
    json!({
        "metadata": {"name": format!("{SERVICE}-{colour}"), "uid": colour.name(), "generation": 1,
            "labels": labels(Some(colour)), "resourceVersion": state.resource_version.to_string(),
            "annotations": {"deployment.kubernetes.io/revision": "1", LIVE: side.live.to_string()}},
        "spec": {"replicas": side.replicas, "selector": {"matchLabels": labels(Some(colour))},
            "template": {"metadata": {"labels": pod_labels}, "spec": {"containers": [{
                "name": SERVICE, "image": format!("host:5000/trii/quotes:{}", side.tag),
                "envFrom": [{"configMapRef": {"name": side.configuration}}],
                "readinessProbe": probe(state),
                "resources": {"requests": {"cpu": "100m"}}}]}}},
        "status": {"observedGeneration": 1, "replicas": side.replicas,
            "updatedReplicas": side.replicas, "readyReplicas": ready, "availableReplicas": ready},
    })
}

fn colour_in(name: &str) -> Option<Colour> {
    Colour::ALL
        .into_iter()
        .find(|it| name == format!("{SERVICE}-{it}"))
}

fn one_deployment(state: &mut State, name: &str, asked: &Asked) -> (u16, Value) {
    let Some(colour) = colour_in(name) else {
        return status(404, "no such Deployment");
    };
    if asked.method == "PATCH" {
        if is_stale(state, asked) {
            return status(409, "the object has been modified");
        }
        state.step();
        let side = state.side(colour);
        let spec = &asked.body["spec"];
        if let Some(replicas) = spec["replicas"].as_i64() {
            side.replicas = i32::try_from(replicas).unwrap();
        }
        if let Some(image) = spec["template"]["spec"]["containers"][0]["image"].as_str() {
            assert!(image.starts_with("host:5000/trii/quotes:"), "{image}");
            side.tag = image.rsplit(':').next().unwrap().to_owned();
        }
        let from = &spec["template"]["spec"]["containers"][0]["envFrom"];
        if let Some(name) = from[0]["configMapRef"]["name"].as_str() {
            side.configuration = ["a", "b"].into_iter().find(|it| *it == name).unwrap();
        }
        if let Some(annotations) = asked.body["metadata"].get("annotations") {
            side.live = annotations[LIVE] == "true";
        }
    }
    (200, deployment(state, colour))
}

fn scale(state: &mut State, name: &str, asked: &Asked) -> (u16, Value) {
    if is_stale(state, asked) {
        return status(409, "the object has been modified");
    }
    state.step();
    let colour = colour_in(name).unwrap();
    let replicas = asked.body["spec"]["replicas"].as_i64().unwrap();
    state.side(colour).replicas = i32::try_from(replicas).unwrap();
    let scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": name}, "spec": {"replicas": replicas}});
    (200, scale)
}

fn probe(state: &State) -> Value {
    match state.probed_otherwise {
        true => json!({"exec": {"command": ["true"]}}),
        false => json!({"httpGet": {"path": "/health/ready", "port": "metrics"}}),
    }
}

fn replica_set(state: &State, colour: Colour) -> Value {
    json!({
        "metadata": {"name": format!("{SERVICE}-{colour}-1"), "uid": format!("{colour}-rs"),
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment",
                "name": format!("{SERVICE}-{colour}"), "uid": colour.name()}]},
        "spec": {"selector": {}, "replicas": state.sides[colour.name()].replicas},
        "status": {"replicas": state.sides[colour.name()].replicas},
    })
}

fn pods(state: &State, colour: Colour) -> Vec<Value> {
    let side = &state.sides[colour.name()];
    let image = format!("host:5000/trii/quotes:{}", side.tag);
    let container = match side.waiting {
        None => json!({"state": {"running": {}}, "ready": true}),
        Some((reason, message)) => {
            json!({"state": {"waiting": {"reason": reason, "message": message}}, "ready": false})
        }
    };
    (side.killed..side.killed + side.replicas)
        .map(|number| {
            let mut container = container.clone();
            container["name"] = json!(SERVICE);
            container["image"] = json!(image);
            container["imageID"] = json!("");
            container["restartCount"] = json!(0);
            json!({
                "metadata": {"name": format!("{SERVICE}-{colour}-1-{number}"), "labels": labels(Some(colour)),
                    "uid": format!("{colour}-{number}"),
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                        "name": "r", "uid": format!("{colour}-rs")}]},
                "spec": {"containers": [{"name": SERVICE, "image": image,
                    "ports": [{"name": "http", "containerPort": 8000}, {"name": "metrics", "containerPort": 9090}],
                    "readinessProbe": probe(state)}]},
                "status": {"phase": "Running", "containerStatuses": [container], "conditions": [
                    {"type": "Ready", "status": if side.waiting.is_none() {"True"} else {"False"}}]},
            })
        })
        .collect()
}

/// A pod asked through the API server.
fn proxied(state: &mut State, pod: &str, path: &[&str]) -> (u16, Value) {
    let colour = Colour::ALL
        .into_iter()
        .find(|it| pod.contains(it.name()))
        .unwrap();
    let side = state.sides[colour.name()].clone();
    if path != ["metrics"] {
        let last = pod.contains(&format!("-{}:", side.killed + side.replicas - 1));
        let code = if last { side.last_says } else { 200 };
        return (code, json!({"status": code}));
    }
    let (more, failures) = match state.active == Some(colour) {
        true => state.each_look,
        false => (0, 0),
    };
    let counted = state.traffic.entry(pod.to_owned()).or_default();
    counted.requests += more;
    counted.failed += failures;
    counted.slow += if state.slow { more } else { 0 };
    match state.swallows {
        None => {}
        Some(true) => counted.given_up += more / 2,
        Some(false) => counted.in_flight += more / 2,
    }
    let Answered {
        requests,
        failed,
        slow,
        given_up,
        in_flight,
    } = *counted;
    let started = requests + given_up + in_flight;
    let (good, quick) = (requests - failed, requests - slow);
    let text = format!(
        "# TYPE http_requests counter\n\
         http_requests_total{{method=\"GET\",route=\"/quotes\",status=\"200\"}} {good}\n\
         http_requests_total{{method=\"GET\",route=\"/quotes\",status=\"500\"}} {failed}\n\
         http_requests_started_total {started}\n\
         http_requests_in_flight {in_flight}\n\
         # TYPE http_request_duration_seconds histogram\n\
         http_request_duration_seconds_bucket{{le=\"0.005\",method=\"GET\",route=\"/quotes\",status=\"200\"}} {quick}\n\
         http_request_duration_seconds_bucket{{le=\"0.25\",method=\"GET\",route=\"/quotes\",status=\"200\"}} {quick}\n\
         http_request_duration_seconds_bucket{{le=\"+Inf\",method=\"GET\",route=\"/quotes\",status=\"200\"}} {requests}\n\
         # EOF\n"
    );
    (200, Value::String(text))
}

fn endpoints(state: &State, asked: &Asked) -> (u16, Value) {
    let colour = match asked.query.contains("quotes-preview") {
        true => Some(state.preview),
        false => state.active,
    };
    let ready = colour.into_iter().flat_map(|it| pods(state, it));
    let ready: Vec<Value> = ready
        .map(|pod| {
            let name = &pod["metadata"]["name"];
            json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": name}})
        })
        .collect();
    list(vec![
        json!({"metadata": {"name": "quotes-1"}, "addressType": "IPv4",
        "endpoints": ready, "ports": []}),
    ])
}

fn autoscalers(state: &mut State, asked: &Asked) -> (u16, Value) {
    if asked.method == "PATCH" {
        let colour = Colour::ALL
            .into_iter()
            .find(|it| asked.path.ends_with(&format!("{it}-hpa")));
        let scaler = state.scalers.get_mut(colour.unwrap().name()).unwrap();
        let number = |it: &Value| it.as_i64().map(|it| i32::try_from(it).unwrap());
        scaler.least = number(&asked.body["spec"]["minReplicas"]).unwrap();
        let before = &asked.body["metadata"]["annotations"]["trii.co/min-replicas"];
        scaler.before = before.as_str().map(|it| it.parse().unwrap());
        return (
            200,
            json!({"metadata": {}, "spec": {"maxReplicas": 9,
            "scaleTargetRef": {"kind": "Deployment", "name": ""}}}),
        );
    }
    let all = state.scalers.iter().map(|(colour, it)| {
        let annotations = it
            .before
            .map(|it| json!({"trii.co/min-replicas": it.to_string()}));
        json!({"metadata": {"name": format!("quotes-{colour}-hpa"), "annotations": annotations},
            "spec": {"minReplicas": it.least, "maxReplicas": 9,
                "scaleTargetRef": {"kind": "Deployment", "name": format!("quotes-{colour}")}},
            "status": {"desiredReplicas": it.desired, "currentReplicas": it.desired}})
    });
    list(all.collect())
}

/// The pod of an ingress that refuses so many requests between two looks, from the switch on.
fn ingress(state: &mut State, asked: &Asked) -> (u16, Value) {
    if !asked.path.ends_with("/metrics") {
        return list(vec![
            json!({"metadata": {"name": "router", "uid": "router"}}),
        ]);
    }
    if state.active == Some(Colour::Green) {
        state.refused += state.refuses;
    }
    let text = format!(
        "# TYPE answers_total counter\n\
         answers_total{{code=\"200\",service=\"trii-quotes-http\"}} 1000000\n\
         answers_total{{code=\"502\",service=\"trii-quotes-http\"}} {}\n\
         answers_total{{code=\"502\",service=\"trii-orders-http\"}} {}\n",
        4000 + state.refused,
        9000 + 100 * state.refused
    );
    (200, Value::String(text))
}

/// A Service asked through the API server.
fn smoked(state: &mut State, name: &str) -> (u16, Value) {
    let colour = match name.starts_with("quotes-preview") {
        true => Some(state.preview),
        false => state.active,
    };
    let side = colour.map(|it| state.side(it).tag.clone());
    match state.smoke_breaks {
        0 => (200, json!({"x-trii-version": side})),
        _ => {
            state.smoke_breaks -= 1;
            status(503, "error trying to reach service: EOF")
        }
    }
}

/// ConfigMaps and Leases, as they are written.
fn kept(state: &mut State, asked: &Asked) -> (u16, Value) {
    let path = match asked.method.as_str() {
        "POST" => {
            let name = asked.body["metadata"]["name"].as_str().unwrap();
            format!("{}/{name}", asked.path)
        }
        _ => asked.path.clone(),
    };
    let there = state.kept.get(&path).cloned();
    match (asked.method.as_str(), there) {
        ("GET", Some(object)) => (200, object),
        ("GET" | "PUT" | "DELETE", None) => status(404, "no such object"),
        ("POST", Some(_)) => status(409, "it exists"),
        ("DELETE", Some(object)) => {
            state.kept.remove(&path);
            (200, object)
        }
        ("PUT", Some(there))
            if !asked.body["metadata"]["resourceVersion"].is_null()
                && there["metadata"]["resourceVersion"]
                    != asked.body["metadata"]["resourceVersion"] =>
        {
            status(409, "the object has been modified")
        }
        _ => {
            let mut object = asked.body.clone();
            object["metadata"]["resourceVersion"] = json!(state.step());
            state.kept.insert(path, object.clone());
            (200, object)
        }
    }
}
