//! One pod: a process of the platform's, and what the API says of it.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api_server::store::revision;
use crate::blue_green::objects;
use crate::blue_green::traffic::METRICS;
use crate::local::services::Listening;

/// Kubernetes' own default for the time that a pod has to end in.
const GRACE: u64 = 30;

/// A pod, made from the template that its Deployment had then.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub name: String,
    pub deployment: String,
    /// Which of the Deployment's templates it is made from.
    pub revision: u64,
    pub template: Value,
    pub state: State,
    /// Since when it is on its way out.
    pub ending: Option<Timestamp>,
    /// Tells its process so.
    pub end: CancellationToken,
}

/// How a pod's process is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// It is about to listen.
    Starting,
    /// It cannot be started: Kubernetes' word for that, and why.
    Waiting {
        reason: &'static str,
        message: String,
    },
    /// It listens.
    Running {
        listening: Listening,
        /// Whether its readiness probe passes.
        ready: bool,
        /// What the probe saw last, where it did not.
        failure: Option<String>,
    },
    /// It ended although nobody asked it to; it is not started again.
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

    /// Where it takes requests, while it should.
    pub fn endpoint(&self) -> Option<Listening> {
        match self.state {
            State::Running {
                listening,
                ready: true,
                ..
            } if self.ending.is_none() => Some(listening),
            _ => None,
        }
    }

    /// Where it listens.
    pub fn listening(&self) -> Option<Listening> {
        match self.state {
            State::Running { listening, .. } => Some(listening),
            _ => None,
        }
    }

    /// The address behind one of its ports, which is called by its name or its number.
    pub fn port(&self, called: &str, listening: Listening) -> Option<SocketAddr> {
        let mut ports = self.container()["ports"].as_array()?.iter();
        let number = called.parse().ok();
        let port = ports.find(|it| {
            it["name"] == called || number.is_some() && it["containerPort"].as_u64() == number
        })?;
        match port["name"].as_str()? {
            METRICS => Some(listening.metrics),
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

    /// The port's name and the path of its readiness probe.
    pub fn probed(&self) -> (&str, &str) {
        let probe = &self.container()["readinessProbe"]["httpGet"];
        let text = |field: &str| probe[field].as_str();
        (text("port").unwrap_or("http"), text("path").unwrap_or("/"))
    }

    /// How long it goes on before it is asked to end.
    pub fn pre_stop(&self) -> Duration {
        let seconds = self.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
        Duration::from_secs(seconds.unwrap_or(0))
    }

    /// How long it may take to end, that included.
    pub fn grace(&self) -> Duration {
        let seconds = self.template["spec"]["terminationGracePeriodSeconds"].as_u64();
        Duration::from_secs(seconds.unwrap_or(GRACE))
    }

    /// The name of the ReplicaSet that it is of.
    pub fn replica_set(&self) -> String {
        format!("{}-{}", self.deployment, self.revision)
    }

    /// As the API has it.
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

    /// What its probe saw, as the kubelet tells it.
    pub fn event(&self) -> Option<Value> {
        let State::Running {
            failure: Some(failure),
            ..
        } = &self.state
        else {
            return None;
        };
        Some(json!({
            "metadata": {"name": format!("{}.unhealthy", self.name)},
            "involvedObject": {"kind": "Pod", "name": self.name},
            "type": "Warning", "reason": "Unhealthy",
            "message": format!("Readiness probe failed: {failure}"),
        }))
    }
}
