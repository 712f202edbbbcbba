//! The objects of the chart for a service with two colours, as far as a release uses them:
//! `fixtures/helm/trii-platform`.

use hyper::Uri;
use serde_json::{Value, json};

use blue_green::Colour;
use blue_green::colour::TRACK;
use blue_green::objects::{LIVE, ROLE, VERSION};
use blue_green::traffic::METRICS;
use helm::METRICS_PORT;

/// Shorter than in the chart: all clients of the endpoints are in this process.
const PRE_STOP_SECONDS: u64 = 1;
const DRAIN_SECONDS: u64 = 1;
const REQUEST_SECONDS: u64 = 25;

/// The port number in the objects. Each pod listens on its own ports.
const PORT: u16 = 8000;

/// The port numbers in the objects: for users, and for metrics.
pub(super) const PORTS: [u16; 2] = [PORT, METRICS_PORT];

/// The release that the objects would be of.
const RELEASE: &str = "platform";

/// The Deployment of a colour. `ready_url` has the port numbers of the objects.
pub(super) fn deployment(
    service: &str,
    colour: Colour,
    version: &str,
    replicas: u32,
    ready_url: Option<&str>,
) -> Value {
    let selector = selector(service, colour);
    let mut labels = selector.clone();
    labels["app.kubernetes.io/instance"] = json!(RELEASE);
    let mut pod = labels.clone();
    pod[VERSION] = json!(version);
    let live = if replicas > 0 {
        json!({LIVE: "true"})
    } else {
        json!({})
    };
    json!({
        "metadata": {"name": format!("{service}-{colour}"), "labels": labels, "annotations": live},
        "spec": {"replicas": replicas, "selector": {"matchLabels": selector}, "template": {
            "metadata": {"labels": pod},
            "spec": {
                // As in the chart: preStop, DRAIN_SECONDS, SHUTDOWN_SECONDS, and 5 s to exit.
                "terminationGracePeriodSeconds": PRE_STOP_SECONDS + DRAIN_SECONDS + REQUEST_SECONDS + 5,
                "containers": [{
                    "name": service,
                    "image": format!("{RELEASE}:{version}"),
                    "ports": [
                        {"name": "http", "containerPort": PORT},
                        {"name": METRICS, "containerPort": METRICS_PORT},
                    ],
                    "env": [
                        {"name": "DRAIN_SECONDS", "value": DRAIN_SECONDS.to_string()},
                        {"name": "SHUTDOWN_SECONDS", "value": REQUEST_SECONDS.to_string()},
                    ],
                    "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
                    "readinessProbe": readiness_probe(ready_url),
                }],
            },
        }},
    })
}

fn readiness_probe(ready_url: Option<&str>) -> Value {
    let Some(url) = ready_url.and_then(|it| it.parse::<Uri>().ok()) else {
        return json!({"tcpSocket": {"port": "http"}});
    };
    let port = match url.port_u16() {
        Some(METRICS_PORT) => METRICS,
        _ => "http",
    };
    let path = url.path_and_query().map_or("/", |it| it.as_str());
    json!({"httpGet": {"path": path, "port": port}})
}

/// The Service of a role, on `port` of this machine.
pub(super) fn service(service: &str, role: Role, colour: Colour, port: u16) -> Value {
    let labels = json!({
        "app.kubernetes.io/name": service, "app.kubernetes.io/instance": RELEASE,
        ROLE: role.label(),
    });
    json!({
        "metadata": {"name": role.name(service), "labels": labels},
        "spec": {
            "selector": selector(service, colour), "clusterIP": "127.0.0.1",
            "ports": [{"name": "http", "port": port, "targetPort": "http"}],
        },
    })
}

/// The role of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Active,
    Preview,
}

impl Role {
    pub const ALL: [Role; 2] = [Role::Active, Role::Preview];

    fn label(self) -> &'static str {
        match self {
            Role::Active => "active",
            Role::Preview => "preview",
        }
    }

    pub fn name(self, service: &str) -> String {
        match self {
            Role::Active => service.to_owned(),
            Role::Preview => format!("{service}-preview"),
        }
    }
}

fn selector(service: &str, colour: Colour) -> Value {
    json!({"app.kubernetes.io/name": service, TRACK: colour.name()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readiness_probe_is_that_of_harness_toml() {
        for (url, probe) in [
            (
                Some("http://127.0.0.1:9090/health/ready"),
                json!({"httpGet": {"path": "/health/ready", "port": "metrics"}}),
            ),
            (
                Some("http://127.0.0.1:8000/?x=y"),
                json!({"httpGet": {"path": "/?x=y", "port": "http"}}),
            ),
            (None, json!({"tcpSocket": {"port": "http"}})),
        ] {
            assert_eq!(readiness_probe(url), probe, "{url:?}");
        }
    }
}
