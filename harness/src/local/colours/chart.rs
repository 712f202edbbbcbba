//! The objects that the chart makes for a service that is released blue-green, as far as a
//! release goes by them: `fixtures/helm/trii-platform`.

use serde_json::{Value, json};

use crate::blue_green::Colour;
use crate::blue_green::colour::TRACK;
use crate::blue_green::objects::{LIVE, ROLE, VERSION};
use crate::release::{METRICS_PORT, PLATFORM};
use crate::service::Service;

/// Shorter than the chart's: what learns here that a pod is going is in one process with
/// whoever decides it.
const PRE_STOP_SECONDS: u64 = 1;
const DRAIN_SECONDS: u64 = 1;
const REQUEST_SECONDS: u64 = 25;

/// The numbers by which clients know the ports; each pod has two of its own.
const PORT: u16 = 8000;

/// One colour's Deployment.
pub(super) fn deployment(service: Service, colour: Colour, version: &str, replicas: u32) -> Value {
    let name = service.name();
    let selector = selector(service, colour);
    let mut labels = selector.clone();
    labels["app.kubernetes.io/instance"] = json!(PLATFORM);
    let mut pod = labels.clone();
    pod[VERSION] = json!(version);
    let live = if replicas > 0 {
        json!({LIVE: "true"})
    } else {
        json!({})
    };
    json!({
        "metadata": {"name": format!("{name}-{colour}"), "labels": labels, "annotations": live},
        "spec": {"replicas": replicas, "selector": {"matchLabels": selector}, "template": {
            "metadata": {"labels": pod},
            "spec": {
                // As in the chart: preStop, DRAIN_SECONDS, SHUTDOWN_SECONDS, and 5 s to end in.
                "terminationGracePeriodSeconds": PRE_STOP_SECONDS + DRAIN_SECONDS + REQUEST_SECONDS + 5,
                "containers": [{
                    "name": name,
                    "image": format!("{PLATFORM}:{version}"),
                    "ports": [
                        {"name": "http", "containerPort": PORT},
                        {"name": "metrics", "containerPort": METRICS_PORT},
                    ],
                    "env": [
                        {"name": "DRAIN_SECONDS", "value": DRAIN_SECONDS.to_string()},
                        {"name": "SHUTDOWN_SECONDS", "value": REQUEST_SECONDS.to_string()},
                    ],
                    "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
                    "readinessProbe": {"httpGet": {"path": "/health/ready", "port": "metrics"}},
                }],
            },
        }},
    })
}

/// The active Service, or the preview, which listens on `port` of this machine.
pub(super) fn service(service: Service, role: Role, colour: Colour, port: u16) -> Value {
    let labels = json!({
        "app.kubernetes.io/name": service.name(), "app.kubernetes.io/instance": PLATFORM,
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

/// Which of the two Services.
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

    pub fn name(self, service: Service) -> String {
        match self {
            Role::Active => service.name().to_owned(),
            Role::Preview => format!("{service}-preview"),
        }
    }
}

fn selector(service: Service, colour: Colour) -> Value {
    json!({"app.kubernetes.io/name": service.name(), TRACK: colour.name()})
}
