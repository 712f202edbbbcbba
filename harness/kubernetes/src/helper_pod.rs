//! Helper pods beside the platform: their specification, labels and lifecycle.

mod lifecycle;
mod log;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::{ListParams, ObjectMeta};
use sha2::{Digest, Sha256};

use crate::pods;
use base::chain;
use base::wait::Observation;

pub use lifecycle::{HelperError, HelperPod, delete_all};
pub use log::follow_log;

/// The label of every helper pod, with its purpose (`tunnel`, `prober`). A cleanup selects by it.
pub const LABEL: &str = "trii.rehearsal/part";

/// The label that the platform's network policies select: they admit the prober.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>
const COMPONENT: &str = "app.kubernetes.io/component";

const OWNER: &str = "trii.rehearsal/owner";

/// The owner of helper pods. It may delete all of its pods that remain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(String);

impl Owner {
    /// Returns the owner that is this process alone.
    pub fn this_process() -> Owner {
        static OURS: LazyLock<Owner> =
            LazyLock::new(|| Owner(format!("{:016x}", rand::random::<u64>())));
        OURS.clone()
    }

    /// Returns the owner for work that one process does at a time, such as the release of a
    /// service. The next process then owns the pods that the previous one left.
    pub fn of(work: &str) -> Owner {
        let hash = Sha256::digest(work);
        Owner(hash[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn pods_for(&self, part: &str) -> ListParams {
        ListParams::default().labels(&format!("{LABEL}={part},{OWNER}={}", self.0))
    }
}

/// Returns a pod of one container that satisfies the restricted Pod Security Standard and any
/// quota. The cluster stops it after `lifetime`, even if this process has exited.
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
pub fn restricted(part: &str, owner: &Owner, container: Container, lifetime: Duration) -> Pod {
    let container = Container {
        image_pull_policy: Some("IfNotPresent".into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..container
    };
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{part}-")),
            labels: Some(BTreeMap::from([
                (LABEL.to_owned(), part.to_owned()),
                (COMPONENT.to_owned(), part.to_owned()),
                (OWNER.to_owned(), owner.0.clone()),
            ])),
            ..Default::default()
        },
        spec: Some(PodSpec {
            containers: vec![container],
            restart_policy: Some("Never".into()),
            active_deadline_seconds: i64::try_from(lifetime.as_secs()).ok(),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(65532),
                run_as_group: Some(65532),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        status: None,
    }
}

/// Returns the resource quantities of a container.
pub fn quantities(cpu: &str, memory: &str) -> BTreeMap<String, Quantity> {
    BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpu.to_owned())),
        ("memory".to_owned(), Quantity(memory.to_owned())),
    ])
}

/// Reads the pod, and returns its [`state`].
pub async fn current_state(pods: Api<Pod>, name: String) -> Observation<()> {
    match pods.get(&name).await {
        Ok(pod) => state(&pod),
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            Observation::Failed("it no longer exists".into())
        }
        Err(error) => Observation::NotYet(chain(&error)),
    }
}

/// Returns whether the pod runs, or why not.
pub fn state(pod: &Pod) -> Observation<()> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let phase = phase.unwrap_or_default();
    let is_finished = matches!(phase.as_str(), "Failed" | "Succeeded");
    match pods::problem(pod) {
        Some(problem) if problem.permanent || is_finished => {
            Observation::Failed(problem.to_string())
        }
        Some(problem) => Observation::NotYet(problem.to_string()),
        None if is_finished => Observation::Failed(phase),
        None if phase == "Running" => Observation::Ready(()),
        None => Observation::NotYet(phase),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn observed(status: Value) -> Observation<()> {
        let pod = json!({"metadata": {"name": "tunnel-a"}, "status": status});
        state(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_pod_that_does_not_run_reports_the_cause() {
        assert!(matches!(
            observed(json!({"phase": "Running"})),
            Observation::Ready(())
        ));
        let condition = json!({"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available"});
        let status = json!({"phase": "Pending", "conditions": [condition]});
        let Observation::NotYet(reason) = observed(status) else {
            panic!("it can still be scheduled");
        };
        assert!(reason.contains("0/1 nodes are available"), "{reason}");
    }

    #[test]
    fn a_pod_that_has_finished_does_not_become_ready() {
        for status in [
            json!({"phase": "Failed", "reason": "Evicted", "message": "memory"}),
            json!({"phase": "Succeeded"}),
        ] {
            assert!(matches!(observed(status), Observation::Failed(_)));
        }
    }
}
