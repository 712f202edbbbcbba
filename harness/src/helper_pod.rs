//! Pods of ours beside the platform: what they have in common, what finds them, and how they
//! come and go.

mod life;
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

use crate::chain;
use crate::cluster::pods;
use crate::wait::Observation;

pub use life::{HelperError, HelperPod, delete_all};
pub use log::hear;

/// On every such pod, with what it is for (`tunnel`, `prober`): what finds those that were left.
pub const LABEL: &str = "trii.rehearsal/part";

/// Beside it, what the platform's policies know a part by: the chart lets the prober in.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>
const COMPONENT: &str = "app.kubernetes.io/component";

/// And whose it is.
const OWNER: &str = "trii.rehearsal/owner";

/// Whose a pod is: whoever may delete all that it has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(String);

impl Owner {
    /// This process: no other has its pods.
    pub fn this_process() -> Owner {
        static OURS: LazyLock<Owner> =
            LazyLock::new(|| Owner(format!("{:016x}", rand::random::<u64>())));
        OURS.clone()
    }

    /// Something that one process at a time works on, like a service that is released: the next
    /// one has what the one before it left.
    pub fn of(work: &str) -> Owner {
        let hash = Sha256::digest(work);
        Owner(hash[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// What finds its pods for `part`.
    fn all(&self, part: &str) -> ListParams {
        ListParams::default().labels(&format!("{LABEL}={part},{OWNER}={}", self.0))
    }
}

/// A pod of one container that satisfies the restricted Pod Security Standard and any quota,
/// and ends after `lifetime`, whatever became of us.
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

/// Of CPU and memory.
pub fn quantities(cpu: &str, memory: &str) -> BTreeMap<String, Quantity> {
    BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpu.to_owned())),
        ("memory".to_owned(), Quantity(memory.to_owned())),
    ])
}

/// Whether the pod of this name runs.
pub async fn looked_at(pods: Api<Pod>, name: String) -> Observation<()> {
    match pods.get(&name).await {
        Ok(pod) => state(&pod),
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            Observation::Hopeless("it is gone".into())
        }
        Err(error) => Observation::NotYet(chain(&error)),
    }
}

/// Whether the pod runs, else in its own words why not.
pub fn state(pod: &Pod) -> Observation<()> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let phase = phase.unwrap_or_default();
    let has_ended = matches!(phase.as_str(), "Failed" | "Succeeded");
    match pods::trouble(pod) {
        Some(trouble) if trouble.hopeless || has_ended => {
            Observation::Hopeless(trouble.to_string())
        }
        Some(trouble) => Observation::NotYet(trouble.to_string()),
        None if has_ended => Observation::Hopeless(phase),
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
    fn a_pod_runs_or_says_why_not() {
        assert!(matches!(
            observed(json!({"phase": "Running"})),
            Observation::Ready(())
        ));
        let condition = json!({"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available"});
        let status = json!({"phase": "Pending", "conditions": [condition]});
        let Observation::NotYet(words) = observed(status) else {
            panic!("it may yet be scheduled");
        };
        assert!(words.contains("0/1 nodes are available"), "{words}");
    }

    #[test]
    fn a_pod_that_has_ended_is_given_up() {
        for status in [
            json!({"phase": "Failed", "reason": "Evicted", "message": "memory"}),
            json!({"phase": "Succeeded"}),
        ] {
            assert!(matches!(observed(status), Observation::Hopeless(_)));
        }
    }
}
