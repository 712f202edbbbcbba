//! A simulated API server with services on two colours. By default their pods are ready
//! immediately.

mod prober;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::Colour;
use super::super::objects::{LIVE, ROLE, VERSION};
use kubernetes::Cluster;
use kubernetes::in_memory_api::store::{name_of, revision};
use kubernetes::in_memory_api::{ObjectPath, status};
use kubernetes::mock::{ApiRequest, Fault, MockAnswer, MockObjects, MockServer};
use prober::FakeProber;

pub const SERVICE: &str = "quotes";
pub const HELPERS: &str = "helpers";
pub const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/trii/leases/quotes-blue-green";
pub const QUOTAS: &str = "/api/v1/namespaces/trii/resourcequotas";
pub const SERVICES: &str = "/api/v1/namespaces/trii/services";

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/trii/deployments";
const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/trii/replicasets";
const PODS: &str = "/api/v1/namespaces/trii/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/trii/endpointslices";
const ENDPOINTS: &str = "/api/v1/namespaces/trii/endpoints";
const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/trii/ingresses";
const CLASSES: &str = "/apis/networking.k8s.io/v1/ingressclasses";
const SCALERS: &str = "/apis/autoscaling/v2/namespaces/trii/horizontalpodautoscalers";

/// How much later than the EndpointSlices the Endpoints follow a Service.
const ENDPOINTS_LATER: Duration = Duration::from_millis(300);

const NAME: &str = "app.kubernetes.io/name";
const TRACK: &str = "trii.co/track";

/// The state of the cluster.
pub struct State {
    pub objects: MockObjects,
    /// By Deployment.
    behaviour: BTreeMap<String, Behaviour>,
    /// By pod.
    traffic: BTreeMap<String, Answered>,
    /// What each read of the metrics adds to the live version: requests, failures.
    pub each_read: (u64, u64),
    /// The service whose green pods answer half of the requests with an error.
    pub failing: Option<&'static str>,
    /// With a canary Ingress, what each read adds to the idle version.
    pub share_of_green: Option<(u64, u64)>,
    /// Whether the ingress still routes a share after its canary is deleted.
    pub ingress_is_stuck: bool,
    /// Whether requests take 300 ms; else 5 ms.
    pub slow: bool,
    /// One more request for each two has no answer. True: its client gives up; false: it waits.
    pub unanswered: Option<bool>,
    /// How many requests the ingress answers by itself between two reads, after the switch.
    pub refuses: u64,
    refused: u64,
    /// The colour that answers requests to Services with 500.
    pub requests_fail: Option<Colour>,
    /// When the Endpoints are like the EndpointSlices.
    endpoints_at: Instant,
    /// The colour that answers a prober with 503.
    pub probe_fails: Option<Colour>,
    /// The pod of a prober, and whether it runs.
    pub prober: Option<FakeProber>,
    pub prober_runs: bool,
}

/// The behaviour of a colour's pods.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// How many were killed; each has a successor.
    pub killed: i64,
    /// The reason and the message of pods that do not run.
    pub waiting: Option<(&'static str, &'static str)>,
    /// The status of the last pod's answers to health checks.
    pub last_status: u16,
}

/// The metrics of a pod.
#[derive(Clone, Copy, Debug, Default)]
struct Answered {
    requests: u64,
    failed: u64,
    slow: u64,
    given_up: u64,
    in_flight: u64,
}

/// The server and its state.
pub struct Fake {
    pub cluster: Cluster,
    server: MockServer,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Blue is live in v1 with two pods.
    pub fn new() -> Fake {
        Fake::of(&[SERVICE])
    }

    /// The same for each of these services.
    pub fn of(services: &[&str]) -> Fake {
        let healthy = Behaviour {
            killed: 0,
            waiting: None,
            last_status: 200,
        };
        let mut state = State {
            objects: MockObjects::default(),
            behaviour: BTreeMap::new(),
            traffic: BTreeMap::new(),
            each_read: (200, 0),
            failing: None,
            share_of_green: None,
            ingress_is_stuck: false,
            slow: false,
            unanswered: None,
            refuses: 0,
            refused: 0,
            requests_fail: None,
            endpoints_at: Instant::now(),
            probe_fails: None,
            prober: None,
            prober_runs: true,
        };
        for service in services {
            for (colour, version, replicas) in [(Colour::Blue, "v1", 2), (Colour::Green, "v0", 0)] {
                let deployment = deployment(service, colour, version, replicas);
                state.behaviour.insert(name_of(&deployment).into(), healthy);
                state.objects.put(DEPLOYMENTS, deployment);
            }
            for (suffix, role, colour) in [
                ("", "active", Colour::Blue),
                ("-preview", "preview", Colour::Green),
            ] {
                let name = format!("{service}{suffix}");
                let service = json!({"metadata": {"name": name, "labels": {ROLE: role}},
                    "spec": {"selector": labels(service, colour), "clusterIP": "127.0.0.1",
                        "ports": [{"name": "metrics", "port": 9090}, {"name": "http", "port": 8000}]}});
                state.objects.put(SERVICES, service);
            }
        }
        let router = json!({"metadata": {"name": "router", "labels": {"app": "router"}}});
        state.objects.put("/api/v1/namespaces/edge/pods", router);
        state.settle();
        state.endpoints_at = Instant::now();
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = MockServer::new(move |request| shared.lock().unwrap().answer(request));
        Fake {
            cluster: server.cluster("trii"),
            server,
            state,
        }
    }

    /// Reads or changes the state, as another user of the cluster.
    pub fn with<T>(&self, access: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        let result = access(&mut state);
        state.settle();
        result
    }

    /// Returns how many of the requests so far `is_counted` accepts.
    pub fn count_requests(&self, is_counted: impl Fn(&ApiRequest) -> bool) -> usize {
        let requests = self.server.requests();
        requests.iter().filter(|it| is_counted(it)).count()
    }
}

fn labels(service: &str, colour: Colour) -> Value {
    json!({NAME: service, TRACK: colour.name()})
}

fn deployment(service: &str, colour: Colour, version: &str, replicas: i64) -> Value {
    let labels = labels(service, colour);
    let mut pod_labels = labels.clone();
    pod_labels[VERSION] = json!(version);
    json!({
        "metadata": {"name": format!("{service}-{colour}"), "labels": labels,
            "annotations": {LIVE: (replicas > 0).to_string()}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": pod_labels}, "spec": {"containers": [{
                "name": service, "image": format!("host:5000/trii/{service}:{version}"),
                "envFrom": [{"configMapRef": {"name": "a"}}],
                "ports": [{"name": "http", "containerPort": 8000},
                    {"name": "metrics", "containerPort": 9090}],
                "readinessProbe": {"httpGet": {"path": "/health/ready", "port": "metrics"}},
                "resources": {"requests": {"cpu": "100m"}}}]}}},
    })
}

fn path(colour: Colour) -> String {
    format!("{DEPLOYMENTS}/{SERVICE}-{colour}")
}

/// What a test reads and changes.
impl State {
    pub fn pods(&mut self, colour: Colour) -> &mut Behaviour {
        let name = format!("{SERVICE}-{colour}");
        self.behaviour.get_mut(&name).unwrap()
    }

    fn deployment(&self, colour: Colour) -> &Value {
        self.objects.get(&path(colour)).unwrap()
    }

    fn container(&self, colour: Colour) -> &Value {
        &self.deployment(colour)["spec"]["template"]["spec"]["containers"][0]
    }

    pub fn replicas(&self, colour: Colour) -> i64 {
        let replicas = &self.deployment(colour)["spec"]["replicas"];
        replicas.as_i64().unwrap()
    }

    pub fn scale(&mut self, colour: Colour, replicas: i64) {
        let set = |it: &mut Value| it["spec"]["replicas"] = json!(replicas);
        self.objects.change(&path(colour), set);
    }

    pub fn version(&self, colour: Colour) -> &str {
        let image = self.container(colour)["image"].as_str().unwrap();
        image.strip_prefix("host:5000/trii/quotes:").unwrap()
    }

    /// The ConfigMap with the environment of its pods.
    pub fn configuration(&self, colour: Colour) -> &str {
        let from = &self.container(colour)["envFrom"];
        from[0]["configMapRef"]["name"].as_str().unwrap()
    }

    pub fn change_container(&mut self, colour: Colour, key: &str, value: Value) {
        self.objects.change(&path(colour), |it| {
            it["spec"]["template"]["spec"]["containers"][0][key] = value;
        });
    }

    pub fn configure(&mut self, colour: Colour, name: &str) {
        let from = json!([{"configMapRef": {"name": name}}]);
        self.change_container(colour, "envFrom", from);
    }

    pub fn is_live(&self, colour: Colour) -> bool {
        self.deployment(colour)["metadata"]["annotations"][LIVE] == "true"
    }

    pub fn mark_live(&mut self, colour: Colour) {
        let mark = |it: &mut Value| it["metadata"]["annotations"][LIVE] = json!("true");
        self.objects.change(&path(colour), mark);
    }

    /// The colour that the active Service selects; none if its selector has no track.
    pub fn active(&self) -> Option<Colour> {
        self.selected_by(SERVICE)
    }

    pub fn preview(&self) -> Option<Colour> {
        self.selected_by(&format!("{SERVICE}-preview"))
    }

    pub fn selected_by(&self, service: &str) -> Option<Colour> {
        let service = self.objects.get(&format!("{SERVICES}/{service}")).unwrap();
        let track = service["spec"]["selector"][TRACK].as_str();
        Colour::ALL.into_iter().find(|it| Some(it.name()) == track)
    }

    pub fn activate(&mut self, colour: Colour) {
        self.select(SERVICE, json!(colour.name()));
    }

    /// Traffic goes to both colours.
    pub fn activate_both(&mut self) {
        self.objects.change(&format!("{SERVICES}/{SERVICE}"), |it| {
            it["spec"]["selector"]
                .as_object_mut()
                .unwrap()
                .remove(TRACK);
        });
    }

    pub fn select(&mut self, service: &str, track: Value) {
        let set = |it: &mut Value| it["spec"]["selector"][TRACK] = track;
        self.objects.change(&format!("{SERVICES}/{service}"), set);
    }

    pub fn autoscale(&mut self, colour: Colour, minimum: i64, desired: i64) {
        let name = format!("{SERVICE}-{colour}");
        let scaler = json!({"metadata": {"name": format!("{name}-hpa")},
            "spec": {"minReplicas": minimum, "maxReplicas": 9,
                "scaleTargetRef": {"kind": "Deployment", "name": name}},
            "status": {"desiredReplicas": desired, "currentReplicas": desired}});
        self.objects.put(SCALERS, scaler);
    }

    /// The minimum of an autoscaler, and the original one in its annotations.
    pub fn scaler(&self, colour: Colour) -> (i64, Option<&str>) {
        let scaler = format!("{SCALERS}/{SERVICE}-{colour}-hpa");
        let scaler = self.objects.get(&scaler).unwrap();
        let before = scaler["metadata"]["annotations"]["trii.co/min-replicas"].as_str();
        (scaler["spec"]["minReplicas"].as_i64().unwrap(), before)
    }

    /// Its autoscaler scales a colour without load down.
    pub fn shrink(&mut self, colour: Colour) {
        let (minimum, _) = self.scaler(colour);
        self.scale(colour, self.replicas(colour).min(minimum));
    }

    /// Each pod of a colour answers `requests`, and `failed` of them with an error.
    pub fn each_answers(&mut self, colour: Colour, requests: u64, failed: u64) {
        for pod in self.pods_behind(&labels(SERVICE, colour)) {
            let counted = self.traffic.entry(name_of(&pod).into()).or_default();
            counted.requests += requests;
            counted.failed += failed;
        }
    }

    /// The connections of the next `times` requests to Services break.
    pub fn break_smoke(&mut self, times: u32) {
        let proxied = Fault::of(|it| it.path.starts_with(SERVICES) && it.path.contains("/proxy/"));
        let broken = proxied.saying(503, "error trying to reach service: EOF");
        self.objects.fail(broken.times(times));
    }

    /// The API server is away.
    pub fn away_until(&mut self, end: Instant) {
        self.objects.fail(Fault::everywhere().until(end));
    }
}

/// The controllers.
impl State {
    fn settle(&mut self) {
        let deployments: Vec<Value> = self.objects.list(DEPLOYMENTS).cloned().collect();
        let mut replica_sets = Vec::new();
        let mut pods = Vec::new();
        for mut deployment in deployments {
            let set = replica_set(&deployment);
            let behaviour = self.behaviour[name_of(&deployment)];
            let wanted = deployment["spec"]["replicas"].as_i64().unwrap();
            let numbers = behaviour.killed..behaviour.killed + wanted;
            pods.extend(numbers.map(|number| pod(&deployment, &set, number, behaviour)));
            let is_waiting = behaviour.waiting.is_some();
            let ready = if is_waiting { 0 } else { wanted };
            deployment["status"] = json!({
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": wanted, "updatedReplicas": wanted,
                "readyReplicas": ready, "availableReplicas": ready});
            self.objects.put(DEPLOYMENTS, deployment);
            replica_sets.push(set);
        }
        self.objects.put_all(REPLICA_SETS, replica_sets);
        self.objects.put_all(PODS, pods);
        let services = self.objects.list(SERVICES);
        let slices: Vec<Value> = services.map(|it| self.endpoint_slice(it)).collect();
        let is_changed = !self
            .objects
            .list(SLICES)
            .map(|it| &it["endpoints"])
            .eq(slices.iter().map(|it| &it["endpoints"]));
        if is_changed {
            self.objects.put_all(SLICES, slices);
            self.endpoints_at = Instant::now() + ENDPOINTS_LATER;
        }
    }

    /// Brings the Endpoints up to date if they are due.
    fn settle_endpoints(&mut self) {
        if Instant::now() < self.endpoints_at {
            return;
        }
        let slices = self.objects.list(SLICES);
        let endpoints = slices.map(|slice| {
            let ready = |is_ready: bool| {
                let its = slice["endpoints"].as_array().unwrap().iter();
                let its = its.filter(move |it| it["conditions"]["ready"] == is_ready);
                its.map(|it| json!({"ip": "10.0.0.1", "targetRef": it["targetRef"]}))
                    .collect::<Vec<_>>()
            };
            json!({"metadata": {"name": slice["metadata"]["labels"]["kubernetes.io/service-name"]},
                "subsets": [{"addresses": ready(true), "notReadyAddresses": ready(false)}]})
        });
        self.objects.put_all(ENDPOINTS, endpoints.collect());
    }

    fn pods_behind(&self, selector: &Value) -> Vec<Value> {
        let selector = selector.as_object().unwrap();
        let is_selected = |pod: &&Value| {
            let labels = &pod["metadata"]["labels"];
            selector.iter().all(|(key, value)| labels[key] == *value)
        };
        let pods = self.objects.list(PODS);
        pods.filter(is_selected).cloned().collect()
    }

    fn endpoint_slice(&self, service: &Value) -> Value {
        let pods = self.pods_behind(&service["spec"]["selector"]);
        let endpoints = pods.iter().map(|pod| {
            let is_ready = pod["status"]["conditions"][0]["status"] == "True";
            json!({"addresses": ["10.0.0.1"], "conditions": {"ready": is_ready},
                "targetRef": {"kind": "Pod", "name": name_of(pod)}})
        });
        let endpoints: Vec<Value> = endpoints.collect();
        json!({"metadata": {"name": format!("{}-1", name_of(service)),
                "labels": {"kubernetes.io/service-name": name_of(service)}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": []})
    }
}

fn replica_set(deployment: &Value) -> Value {
    let name = format!("{}-{}", name_of(deployment), revision(deployment));
    json!({
        "metadata": {"name": name, "uid": name, "labels": deployment["metadata"]["labels"],
            "annotations": {"deployment.kubernetes.io/revision": revision(deployment).to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment",
                "name": name_of(deployment), "uid": deployment["metadata"]["uid"]}]},
        "spec": {"selector": {}, "replicas": deployment["spec"]["replicas"]},
        "status": {"replicas": deployment["spec"]["replicas"]},
    })
}

fn pod(deployment: &Value, set: &Value, number: i64, behaviour: Behaviour) -> Value {
    let template = &deployment["spec"]["template"];
    let state = match behaviour.waiting {
        None => json!({"running": {}}),
        Some((reason, message)) => json!({"waiting": {"reason": reason, "message": message}}),
    };
    let is_ready = behaviour.waiting.is_none();
    let image = &template["spec"]["containers"][0]["image"];
    json!({
        "metadata": {"name": format!("{}-{number}", name_of(set)),
            "labels": template["metadata"]["labels"],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": name_of(set), "uid": set["metadata"]["uid"]}]},
        "spec": template["spec"],
        "status": {"phase": "Running",
            "containerStatuses": [{"name": template["spec"]["containers"][0]["name"], "image": image, "imageID": "",
                "restartCount": 0, "state": state, "ready": is_ready}],
            "conditions": [{"type": "Ready", "status": if is_ready {"True"} else {"False"}}]},
    })
}

/// The answers of the API server, of pods and of Services.
impl State {
    fn answer(&mut self, request: &ApiRequest) -> MockAnswer {
        if let Some(fault) = self.objects.fault(request) {
            return fault;
        }
        if request.path.contains(&format!("/namespaces/{HELPERS}/")) {
            return prober::pods(self, request).into();
        }
        self.settle_endpoints();
        let place = ObjectPath::of(&request.path);
        let proxied = place.and_then(|it| match (it.resource, it.rest.split_first()?) {
            ("pods", (&"proxy", path)) => Some(self.answer_of_pod(in_proxy(it.name), path)),
            ("services", (&"proxy", _)) => Some(self.answer_of_service(in_proxy(it.name))),
            _ => None,
        });
        let answer = proxied.map(MockAnswer::from);
        let answer = answer.unwrap_or_else(|| self.objects.answer(request));
        if request.method != "GET" {
            self.settle();
        }
        answer
    }

    fn answer_of_pod(&mut self, name: &str, path: &[&str]) -> (u16, Value) {
        if name == "router" {
            return (200, self.ingress_page().into());
        }
        let Some(pod) = self.objects.get(&format!("{PODS}/{name}")).cloned() else {
            return (404, status(404, "NotFound", name));
        };
        if path == ["metrics"] {
            return (200, self.page(&pod).into());
        }
        let labels = &pod["metadata"]["labels"];
        let (service, colour) = (&labels[NAME], &labels[TRACK]);
        let pods = self.pods_behind(&json!({NAME: service, TRACK: colour}));
        let deployment = format!("{}-{}", service.as_str().unwrap(), colour.as_str().unwrap());
        let code = match pods.last() == Some(&pod) {
            true => self.behaviour[&deployment].last_status,
            false => 200,
        };
        (code, json!({"status": code}))
    }

    fn answer_of_service(&self, name: &str) -> (u16, Value) {
        let endpoints = self.objects.get(&format!("{ENDPOINTS}/{name}")).unwrap();
        let pod = endpoints["subsets"][0]["addresses"][0]["targetRef"]["name"].as_str();
        let pod = pod.and_then(|it| self.objects.get(&format!("{PODS}/{it}")));
        let Some(pod) = pod else {
            return (503, status(503, "", "no endpoints available"));
        };
        let labels = &pod["metadata"]["labels"];
        let fails = self
            .requests_fail
            .is_some_and(|it| labels[TRACK] == it.name());
        let code = if fails { 500 } else { 200 };
        (code, json!({"x-trii-version": labels[VERSION]}))
    }

    fn page(&mut self, pod: &Value) -> String {
        let labels = &pod["metadata"]["labels"];
        let (service, track) = (labels[NAME].as_str().unwrap(), labels[TRACK].as_str());
        let live = self.selected_by(service);
        let is_live = live.is_some_and(|it| Some(it.name()) == track);
        let (more, mut failures) = match (is_live, self.share_of_green) {
            (true, _) => self.each_read,
            (false, Some(share)) if self.routes_to(service) => share,
            (false, _) => (0, 0),
        };
        if self.failing == Some(service) && track == Some("green") {
            failures = more / 2;
        }
        let counted = self.traffic.entry(name_of(pod).to_owned()).or_default();
        counted.requests += more;
        counted.failed += failures;
        counted.slow += if self.slow { more } else { 0 };
        match self.unanswered {
            None => {}
            Some(true) => counted.given_up += more / 2,
            Some(false) => counted.in_flight += more / 2,
        }
        counted.page()
    }

    /// Whether the ingress routes a share of the traffic to the service's preview.
    fn routes_to(&self, service: &str) -> bool {
        self.ingress_is_stuck || self.weight(service).is_some_and(|it| it > 0)
    }

    /// The share that a canary Ingress routes there; none if there is no such Ingress.
    pub fn weight(&self, service: &str) -> Option<u8> {
        let canary = self.objects.get(&format!("{INGRESSES}/{service}-canary"))?;
        let annotations = &canary["metadata"]["annotations"];
        let weight = annotations["nginx.ingress.kubernetes.io/canary-weight"].as_str();
        Some(weight?.parse().unwrap())
    }

    /// Creates an Ingress that routes to the service.
    pub fn route_by_ingress(&mut self, controller: &str) {
        let backend = |name: &str| json!({"service": {"name": name, "port": {"name": "http"}}});
        let path = |path: &str, name: &str| json!({"path": path, "pathType": "Prefix", "backend": backend(name)});
        let rules = json!([{"host": "a.example", "http": {"paths": [
            path("/quotes", SERVICE), path("/orders", "orders")]}}]);
        let ingress = json!({"metadata": {"name": SERVICE, "uid": "i"},
            "spec": {"ingressClassName": "edge", "rules": rules}});
        self.objects.put(INGRESSES, ingress);
        let class = json!({"metadata": {"name": "edge"}, "spec": {"controller": controller}});
        self.objects.put(CLASSES, class);
    }

    /// The metrics of the ingress.
    fn ingress_page(&mut self) -> String {
        if self.active() == Some(Colour::Green) {
            self.refused += self.refuses;
        }
        format!(
            "# TYPE answers_total counter\n\
             answers_total{{code=\"200\",service=\"trii-quotes-http\"}} 1000000\n\
             answers_total{{code=\"502\",service=\"trii-quotes-http\"}} {}\n\
             answers_total{{code=\"502\",service=\"trii-orders-http\"}} {}\n",
            4000 + self.refused,
            9000 + 100 * self.refused
        )
    }
}

/// `http:quotes-blue-1-0:9090` is the pod `quotes-blue-1-0`.
fn in_proxy(name: &str) -> &str {
    let name = name.trim_start_matches("http:");
    name.split_once(':').map_or(name, |(name, _)| name)
}

impl Answered {
    fn page(self) -> String {
        let (requests, in_flight) = (self.requests, self.in_flight);
        let started = requests + self.given_up + in_flight;
        let (good, quick) = (requests - self.failed, requests - self.slow);
        let of = "method=\"GET\",route=\"/quotes\"";
        let bucket = "http_request_duration_seconds_bucket";
        format!(
            "# TYPE http_requests counter\n\
             http_requests_total{{{of},status=\"200\"}} {good}\n\
             http_requests_total{{{of},status=\"500\"}} {}\n\
             http_requests_started_total {started}\n\
             http_requests_in_flight {in_flight}\n\
             # TYPE http_request_duration_seconds histogram\n\
             {bucket}{{le=\"0.005\",{of},status=\"200\"}} {quick}\n\
             {bucket}{{le=\"0.25\",{of},status=\"200\"}} {quick}\n\
             {bucket}{{le=\"+Inf\",{of},status=\"200\"}} {requests}\n\
             # EOF\n",
            self.failed
        )
    }
}
