//! Each port that an object names is there.

use serde_json::Value;

use super::fields::{found, list, matches, port_names, text};
use super::objects::{ChartObject, Comparison, Pods};
use crate::config::{ConfigError, Probe, ProbeUrl};
use base::text::similar;

/// The port of an Ingress that an annotation defines, with the AWS controller.
const BY_ANNOTATION: &str = "use-annotation";

pub(super) fn check(comparison: &Comparison<'_>) -> Vec<ConfigError> {
    let mut refused = Vec::new();
    refused.extend(comparison.pods().flat_map(|it| of_probes(comparison, it)));
    let services = comparison.of_kind("Service");
    refused.extend(services.flat_map(|it| of_service(comparison, it)));
    let ingresses = comparison.of_kind("Ingress");
    refused.extend(ingresses.flat_map(|it| of_ingress(comparison, it)));
    let monitors = comparison.of_kind("ServiceMonitor");
    refused.extend(monitors.flat_map(|it| of_service_monitor(comparison, it)));
    let monitors = comparison.of_kind("PodMonitor");
    refused.extend(monitors.flat_map(|it| of_pod_monitor(comparison, it)));
    let rolling = &comparison.config.rolling;
    let probes = rolling.probes.iter().chain(&rolling.slow_probes);
    refused.extend(probes.filter_map(|it| of_rolling_probe(comparison, it)));
    refused
}

/// Refuses a probe of a port that its Service does not have: a request there reaches nobody, or
/// somebody else. A Service that no release renders has been refused.
fn of_rolling_probe(comparison: &Comparison<'_>, probe: &Probe) -> Option<ConfigError> {
    let ProbeUrl::Service { name, port, .. } = &probe.url else {
        return None;
    };
    let mut services = comparison.of_kind("Service");
    let service = services.find(|it| it.name() == name)?;
    let ports = list(service.at("/spec/ports")).iter();
    let ports: Vec<u64> = ports.filter_map(|it| it["port"].as_u64()).collect();
    if ports.contains(&u64::from(*port)) {
        return None;
    }
    let ports: Vec<String> = ports.iter().map(u64::to_string).collect();
    let there = found(ports.iter().map(String::as_str));
    let message = format!("the Service {name:?} has no port {port}; it has: {there}");
    let help = Some("use the Service's port, not that of its pods".to_owned());
    Some(comparison.config.refuse(probe.place.clone(), message, help))
}

/// Refuses a port that does not exist. `owner`, such as "its pods have", has the ports `there`.
fn refuse(
    comparison: &Comparison<'_>,
    object: ChartObject<'_>,
    wants: &str,
    port: &str,
    owner: &str,
    there: &[&str],
) -> ConfigError {
    let message = format!(
        "{} {wants} the port {port:?}; {owner}: {}",
        object.title(),
        found(there.iter().copied())
    );
    let help = match similar(port, there.iter().copied()) {
        Some(other) => format!("did you mean {other:?}? {} has the port", object.file),
        None => format!("correct {}, or the chart's values", object.file),
    };
    comparison.refuse_release(object.release, message, help)
}

/// The kubelet looks for a named port in the probe's own container.
fn of_probes(comparison: &Comparison<'_>, pods: Pods<'_>) -> Vec<ConfigError> {
    const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
    let mut refused = Vec::new();
    for container in pods.containers() {
        let there: Vec<&str> = port_names(container).collect();
        for probe in PROBES {
            let actions = ["httpGet", "tcpSocket"];
            let ports = actions
                .iter()
                .map(|action| &container[probe][action]["port"]);
            let mut names = ports.filter_map(named);
            if let Some(port) = names.find(|name| !there.contains(name)) {
                let wants = format!("has a {probe} of");
                let owner = format!("the container {} has", text(&container["name"]));
                refused.push(refuse(comparison, pods.owner, &wants, port, &owner, &there));
            }
        }
    }
    refused
}

/// A port that is a name. Kubernetes also reads a number in quotes as a number.
fn named(port: &Value) -> Option<&str> {
    port.as_str().filter(|name| name.parse::<u16>().is_err())
}

/// A `targetPort` is the name of a port of the Service's pods. A number may be any that they listen
/// on.
fn of_service(comparison: &Comparison<'_>, service: ChartObject<'_>) -> Vec<ConfigError> {
    let selector = service.at("/spec/selector");
    let is_selected = |pods: &Pods<'_>| !selector.is_null() && matches(selector, pods.labels());
    let selected: Vec<Pods<'_>> = comparison.pods().filter(is_selected).collect();
    let there: Vec<&str> = selected.iter().flat_map(|it| it.port_names()).collect();
    let ports = list(service.at("/spec/ports")).iter();
    let wanted = ports.filter_map(|port| named(&port["targetPort"]));
    let missing = wanted.filter(|name| !selected.is_empty() && !there.contains(name));
    missing
        .map(|port| {
            refuse(
                comparison,
                service,
                "leads to",
                port,
                "its pods have",
                &there,
            )
        })
        .collect()
}

fn of_ingress(comparison: &Comparison<'_>, ingress: ChartObject<'_>) -> Vec<ConfigError> {
    let rules = list(ingress.at("/spec/rules")).iter();
    let paths = rules.flat_map(|rule| list(&rule["http"]["paths"]));
    let backends = paths.map(|path| &path["backend"]["service"]);
    let default = ingress.at("/spec/defaultBackend/service");
    let mut backends: Vec<&Value> = backends
        .chain([default])
        .filter(|it| !it.is_null())
        .collect();
    backends.dedup();
    let refused = backends.into_iter();
    refused
        .filter_map(|backend| of_backend(comparison, ingress, backend))
        .collect()
}

fn of_backend(
    comparison: &Comparison<'_>,
    ingress: ChartObject<'_>,
    backend: &Value,
) -> Option<ConfigError> {
    // Who may not list Services cannot know which are there.
    let others = comparison.contents.services.as_ref()?;
    let name = text(&backend["name"]);
    let port = &backend["port"];
    if port["name"] == BY_ANNOTATION {
        return None;
    }
    let rendered = comparison.of_kind("Service").map(|it| it.object);
    let services: Vec<&Value> = rendered.chain(others).collect();
    let names = services.iter().map(|it| text(&it["metadata"]["name"]));
    let Some(service) = services.iter().find(|it| it["metadata"]["name"] == name) else {
        let message = format!(
            "{} leads to the Service {name:?}, which nothing renders; there are: {}",
            ingress.title(),
            found(names.clone())
        );
        let help = match similar(name, names) {
            Some(other) => format!("did you mean {other:?}? {} has the name", ingress.file),
            None => format!("correct {}, or the chart's values", ingress.file),
        };
        return Some(comparison.refuse_release(ingress.release, message, help));
    };
    let ports = list(&service["spec"]["ports"]);
    let is_there = |it: &Value| match port["name"].as_str() {
        Some(name) => it["name"] == name,
        None => it["port"] == port["number"],
    };
    if service["spec"]["type"] == "ExternalName" || ports.iter().any(is_there) {
        return None;
    }
    let (port, there): (String, Vec<String>) = match port["name"].as_str() {
        Some(port) => {
            let there = ports.iter().filter_map(|it| it["name"].as_str());
            (port.to_owned(), there.map(str::to_owned).collect())
        }
        None => {
            let there = ports.iter().map(|it| it["port"].to_string());
            (port["number"].to_string(), there.collect())
        }
    };
    let there: Vec<&str> = there.iter().map(String::as_str).collect();
    let owner = format!("the Service {name} has");
    Some(refuse(
        comparison, ingress, "leads to", &port, &owner, &there,
    ))
}

/// A monitor that selects no rendered Service selects others.
fn of_service_monitor(comparison: &Comparison<'_>, monitor: ChartObject<'_>) -> Vec<ConfigError> {
    let selector = monitor.at("/spec/selector/matchLabels");
    let is_selected = |it: &ChartObject<'_>| matches(selector, it.at("/metadata/labels"));
    let services = comparison.of_kind("Service").filter(is_selected);
    let there = services.flat_map(|it| port_names(it.at("/spec")));
    of_monitor(
        comparison,
        monitor,
        "endpoints",
        "the Services",
        there.collect(),
    )
}

fn of_pod_monitor(comparison: &Comparison<'_>, monitor: ChartObject<'_>) -> Vec<ConfigError> {
    let selector = monitor.at("/spec/selector/matchLabels");
    let selected = comparison
        .pods()
        .filter(|it| matches(selector, it.labels()));
    let there = selected.flat_map(Pods::port_names).collect();
    of_monitor(
        comparison,
        monitor,
        "podMetricsEndpoints",
        "the pods",
        there,
    )
}

fn of_monitor(
    comparison: &Comparison<'_>,
    monitor: ChartObject<'_>,
    endpoints: &str,
    owner: &str,
    there: Vec<&str>,
) -> Vec<ConfigError> {
    let owner = format!("{owner} that it selects have");
    let wanted = list(&monitor.at("/spec")[endpoints]).iter();
    let wanted = wanted.filter_map(|endpoint| endpoint["port"].as_str());
    let missing = wanted.filter(|port| !there.is_empty() && !there.contains(port));
    missing
        .map(|port| refuse(comparison, monitor, "scrapes", port, &owner, &there))
        .collect()
}
