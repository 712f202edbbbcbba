//! The Services that select pods: their ports, and the containers behind them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Probe, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde::Serialize;

use super::images::short_name;
use crate::objects::{PlatformObjects, Workload};
use blue_green::objects::ROLE;

/// A Service that selects pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundService {
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<FoundPort>,
    /// The pods that it selects, by workload.
    pub pods: Vec<FoundPods>,
    /// The backing service that the pods are, if they are one: `redis`, `postgres`.
    pub backing: Option<&'static str>,
    /// Whether a new version is released through another Service, its preview.
    pub blue_green: bool,
    /// An earlier Service of the same pods.
    pub same_pods_as: Option<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundPort {
    /// Its name.
    pub name: Option<String>,
    /// Its number.
    pub port: i32,
    /// The port of the pods, a number or a name.
    pub target: String,
}

/// The pods of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundPods {
    /// The workload: `Deployment web`.
    pub workload: String,
    /// How many there are: `2`, `2 to 10`.
    pub replicas: Option<String>,
    /// Their containers, without those that only run first.
    pub containers: Vec<FoundContainer>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundContainer {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Its ports by name.
    pub ports: BTreeMap<String, i32>,
    /// Its probes.
    pub probes: Vec<FoundProbe>,
}

/// A probe of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundProbe {
    /// `readiness`, `liveness` or `startup`.
    pub purpose: &'static str,
    /// What it does: `GET /ready on port 8080`.
    pub action: String,
    /// The path that it requests, and the port, a number or a name.
    pub http: Option<(String, String)>,
}

/// Images of backing services, by the last part of their repository.
const BACKING_IMAGES: [(&str, &str); 4] = [
    ("postgres", "postgres"),
    ("postgresql", "postgres"),
    ("redis", "redis"),
    ("valkey", "redis"),
];

/// Returns the Services that select pods, except previews, in their order. Headless ones come last,
/// because requests go to the others.
pub(super) fn find(objects: &PlatformObjects) -> Vec<FoundService> {
    let (headless, usual): (Vec<&Service>, Vec<&Service>) = objects
        .services
        .iter()
        .filter(|it| role(it) != Some("preview"))
        .partition(|it| is_headless(it));
    let mut found: Vec<FoundService> = Vec::new();
    for service in usual.into_iter().chain(headless) {
        let pods = selected(service, objects);
        if pods.is_empty() {
            continue;
        }
        let same_pods = found.iter().find(|it| it.pods == pods);
        found.push(FoundService {
            name: service.name_any(),
            ports: ports(service),
            backing: backing(&pods),
            blue_green: role(service).is_some(),
            same_pods_as: same_pods.map(|it| it.name.clone()),
            pods,
        });
    }
    found
}

fn role(service: &Service) -> Option<&str> {
    service.labels().get(ROLE).map(String::as_str)
}

fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|it| it.cluster_ip.as_deref()) == Some("None")
}

/// A Service without a selector selects nothing.
fn selected(service: &Service, objects: &PlatformObjects) -> Vec<FoundPods> {
    let spec = service.spec.as_ref();
    let selector = spec.and_then(|it| it.selector.clone()).unwrap_or_default();
    let is_selected = |workload: &&Workload| {
        let metadata = workload.template.metadata.as_ref();
        let labels = metadata.and_then(|it| it.labels.as_ref());
        let has = |(key, value): (&String, &String)| {
            labels.is_some_and(|labels| labels.get(key) == Some(value))
        };
        workload.serves() && !selector.is_empty() && selector.iter().all(has)
    };
    let workloads = objects.workloads.iter().filter(is_selected);
    workloads.map(|workload| pods(workload, objects)).collect()
}

fn pods(workload: &Workload, objects: &PlatformObjects) -> FoundPods {
    let scaler = objects.autoscalers.iter().map(|it| &it.spec).find(|spec| {
        let target = &spec.scale_target_ref;
        target.kind == workload.kind && target.name == workload.name
    });
    let replicas = match scaler {
        Some(spec) => {
            let least = spec.min_replicas.unwrap_or(1);
            Some(format!("{least} to {}", spec.max_replicas))
        }
        None => workload.replicas.map(|it| it.to_string()),
    };
    let pod = workload.template.spec.iter();
    FoundPods {
        workload: format!("{} {}", workload.kind, workload.name),
        replicas,
        containers: pod.flat_map(|it| &it.containers).map(container).collect(),
    }
}

fn container(container: &Container) -> FoundContainer {
    let probes = [
        ("readiness", &container.readiness_probe),
        ("liveness", &container.liveness_probe),
        ("startup", &container.startup_probe),
    ];
    let probes = probes
        .into_iter()
        .filter_map(|(purpose, probe)| Some(found_probe(purpose, probe.as_ref()?)));
    let ports = container.ports.iter().flatten();
    FoundContainer {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        ports: ports
            .filter_map(|it| Some((it.name.clone()?, it.container_port)))
            .collect(),
        probes: probes.collect(),
    }
}

fn found_probe(purpose: &'static str, probe: &Probe) -> FoundProbe {
    let mut http = None;
    let action = if let Some(get) = &probe.http_get {
        let (path, port) = (get.path.as_deref().unwrap_or("/"), number(&get.port));
        let action = format!("GET {path} on port {port}");
        http = Some((path.to_owned(), port));
        action
    } else if let Some(tcp) = &probe.tcp_socket {
        format!("a connection to port {}", number(&tcp.port))
    } else if let Some(grpc) = &probe.grpc {
        format!("gRPC on port {}", grpc.port)
    } else {
        let command = probe.exec.iter().flat_map(|it| it.command.iter().flatten());
        let words: Vec<&str> = command.map(String::as_str).collect();
        format!("the command `{}`", words.join(" ").replace('\n', " "))
    };
    FoundProbe {
        purpose,
        action,
        http,
    }
}

fn ports(service: &Service) -> Vec<FoundPort> {
    let ports = service.spec.iter().flat_map(|it| it.ports.iter().flatten());
    ports.map(found_port).collect()
}

fn found_port(port: &ServicePort) -> FoundPort {
    FoundPort {
        name: port.name.clone(),
        port: port.port,
        target: match &port.target_port {
            Some(target) => number(target),
            None => port.port.to_string(),
        },
    }
}

fn number(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

/// The first container decides: the others may be sidecars.
fn backing(pods: &[FoundPods]) -> Option<&'static str> {
    let first = pods.first()?.containers.first()?;
    let name = short_name(&first.image);
    let known = BACKING_IMAGES.iter().find(|(image, _)| *image == name);
    known.map(|(_, backing)| *backing)
}

impl FoundService {
    /// Returns the path of the readiness probe, if it is on a port that the Service leads to.
    pub fn ready_path(&self) -> Option<&str> {
        let mut containers = self.pods.iter().flat_map(|it| &it.containers);
        containers.find_map(|container| {
            let number = |port: &str| match container.ports.get(port) {
                Some(number) => number.to_string(),
                None => port.to_owned(),
            };
            let mut probes = container
                .probes
                .iter()
                .filter(|it| it.purpose == "readiness");
            let (path, port) = probes.find_map(|it| it.http.as_ref())?;
            let mut targets = self.ports.iter().map(|it| number(&it.target));
            targets
                .any(|it| it == number(port))
                .then_some(path.as_str())
        })
    }
}
