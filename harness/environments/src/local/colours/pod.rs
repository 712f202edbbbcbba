//! A pod: a process of the platform, and its representation in the API.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::local::process::Listening;
use blue_green::objects;
use blue_green::traffic::METRICS;
use kubernetes::in_memory_api::store::revision;

/// Kubernetes' default for `terminationGracePeriodSeconds`.
const GRACE: u64 = 30;

/// A pod with the template that its Deployment had when it was created.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub name: String,
    pub deployment: String,
    /// The revision of the Deployment's template.
    pub revision: u64,
    pub template: Value,
    pub state: State,
    /// When its termination began.
    pub ending: Option<Timestamp>,
    /// Requests the end of its process.
    pub end: CancellationToken,
}

/// The state of a pod's process.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// It does not listen yet.
    Starting,
    /// It cannot start. The reason is Kubernetes' name of the cause.
    Waiting {
        reason: &'static str,
        message: String,
    },
    /// It listens.
    Running {
        listening: Listening,
        /// Whether its readiness probe passes.
        ready: bool,
        /// The last failure of the probe.
        failure: Option<String>,
    },
    /// It ended unexpectedly. It is not restarted.
    Ended { code: i32, how: String },
}

impl Pod {
    pub fn of(deployment: &Value, number: u64) -> Pod {
        let name = deployment["metadata"]["name"].as_str().unwrap_or_default();
        let revision = revision(deployment);
        Pod {
            name: format!("{name}-{revision}-{number}"),
            deployment: name.to_owned(),
            revision,
            template: deployment["spec"]["template"].clone(),
            state: State::Starting,
            ending: None,
            end: CancellationToken::new(),
        }
    }

    /// The addresses, if it is ready and not terminating.
    pub fn endpoint(&self) -> Option<Listening> {
        let is_ready = matches!(self.state, State::Running { ready: true, .. });
        self.listening()
            .filter(|_| is_ready && self.ending.is_none())
    }

    /// The addresses, if it listens.
    pub fn listening(&self) -> Option<Listening> {
        match self.state {
            State::Running { listening, .. } => Some(listening),
            _ => None,
        }
    }

    /// The address of the port with this name or number.
    pub fn port(&self, port: &str, listening: Listening) -> Option<SocketAddr> {
        let mut ports = self.container()["ports"].as_array()?.iter();
        let number = port.parse().ok();
        let port = ports.find(|it| {
            it["name"] == port || number.is_some() && it["containerPort"].as_u64() == number
        })?;
        match port["name"].as_str()? {
            METRICS => listening.metrics,
            _ => Some(listening.address),
        }
    }

    pub fn labels(&self) -> &Value {
        &self.template["metadata"]["labels"]
    }

    fn container(&self) -> &Value {
        &self.template["spec"]["containers"][0]
    }

    /// The tag of its image.
    pub fn version(&self) -> &str {
        let image = self.container()["image"].as_str().unwrap_or_default();
        objects::tag(image).map_or("", |(_, tag)| tag)
    }

    /// The variables that its template sets.
    pub fn variables(&self) -> Vec<(String, String)> {
        let all = self.container()["env"].as_array().into_iter().flatten();
        let pairs = all.filter_map(|it| Some((it["name"].as_str()?, it["value"].as_str()?)));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The port and the path of its readiness probe. Without a path, a connection is enough.
    pub fn probed(&self) -> (&str, Option<&str>) {
        let probe = &self.container()["readinessProbe"]["httpGet"];
        let text = |field: &str| probe[field].as_str();
        (text("port").unwrap_or("http"), text("path"))
    }

    /// The time of its preStop hook.
    pub fn pre_stop(&self) -> Duration {
        let seconds = self.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
        Duration::from_secs(seconds.unwrap_or(0))
    }

    /// The grace period, with the preStop hook.
    pub fn grace(&self) -> Duration {
        let seconds = self.template["spec"]["terminationGracePeriodSeconds"].as_u64();
        Duration::from_secs(seconds.unwrap_or(GRACE))
    }

    /// The name of its ReplicaSet.
    pub fn replica_set(&self) -> String {
        format!("{}-{}", self.deployment, self.revision)
    }

    /// The pod as an object of the API.
    pub fn object(&self) -> Value {
        let set = self.replica_set();
        let ready = self.endpoint().is_some();
        let mut pod = json!({
            "metadata": {
                "name": self.name, "uid": self.name, "labels": self.labels(),
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": set}],
            },
            "spec": self.template["spec"],
            "status": {
                "phase": match self.state {
                    State::Running { .. } => "Running",
                    _ => "Pending",
                },
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                "containerStatuses": [{
                    "name": self.container()["name"], "image": self.container()["image"],
                    "imageID": "", "restartCount": 0, "ready": ready, "state": self.container_state(),
                }],
            },
        });
        if let Some(since) = self.ending {
            pod["metadata"]["deletionTimestamp"] = json!(format!("{since:.0}"));
        }
        pod
    }

    fn container_state(&self) -> Value {
        match &self.state {
            State::Starting => json!({"waiting": {"reason": "ContainerCreating"}}),
            State::Waiting { reason, message } => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            State::Running { .. } => json!({"running": {}}),
            State::Ended { code, how } => {
                json!({"terminated": {"exitCode": code, "message": how}})
            }
        }
    }

    /// The failure of its probe, as an event of the kubelet.
    pub fn event(&self) -> Option<Value> {
        let failure = match &self.state {
            State::Running { failure, .. } => failure.as_ref()?,
            _ => return None,
        };
        Some(json!({
            "metadata": {"name": format!("{}.unhealthy", self.name)},
            "involvedObject": {"kind": "Pod", "name": self.name},
            "type": "Warning", "reason": "Unhealthy",
            "message": format!("Readiness probe failed: {failure}"),
        }))
    }
}
