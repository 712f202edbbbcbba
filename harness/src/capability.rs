//! What can be done with an environment. Scenarios ask for it, and never which target
//! they are on.

use serde::{Deserialize, Serialize};

use crate::config::remote::Action;

/// Something that not every environment can do, or lets be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// A Kubernetes API that answers us.
    Cluster,
    /// An ingress controller that honours the chart's annotations.
    Ingress,
    /// Metrics that a HorizontalPodAutoscaler goes by.
    Autoscaling,
    /// NetworkPolicies that are enforced.
    NetworkPolicy,
    /// Nodes that may be stopped and cut off.
    NodeControl,
    /// Argo CD.
    Gitops,
    /// Somebody who notices when a part is lost.
    Watched,
    /// A service on two colours, which may be released, and broken on purpose.
    BlueGreen,
    /// What is more than reading.
    Allowed(Action),
}

/// As a list of needs has it.
impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Capability::Cluster => f.write_str("cluster"),
            Capability::Ingress => f.write_str("ingress"),
            Capability::Autoscaling => f.write_str("autoscaling"),
            Capability::NetworkPolicy => f.write_str("network policy"),
            Capability::NodeControl => f.write_str("node control"),
            Capability::Gitops => f.write_str("gitops"),
            Capability::Watched => f.write_str("watched parts"),
            Capability::BlueGreen => f.write_str("blue-green"),
            Capability::Allowed(action) => write!(f, "allow {}", action.name()),
        }
    }
}

impl Capability {
    /// What processes of this machine can do.
    pub const LOCAL: [Capability; 5] = [
        Capability::Watched,
        Capability::BlueGreen,
        Capability::Allowed(Action::Orders),
        Capability::Allowed(Action::Burst),
        Capability::Allowed(Action::Load),
    ];

    /// What a kind cluster can do.
    pub const KIND: [Capability; 12] = [
        Capability::Cluster,
        Capability::Ingress,
        Capability::Autoscaling,
        Capability::NetworkPolicy,
        Capability::NodeControl,
        Capability::Watched,
        Capability::BlueGreen,
        Capability::Allowed(Action::Deploy),
        Capability::Allowed(Action::Orders),
        Capability::Allowed(Action::Burst),
        Capability::Allowed(Action::Inside),
        Capability::Allowed(Action::Load),
    ];

    /// Why it is not to be had on `target`, as a report goes on from "skipped, because".
    pub fn lacking_on(self, target: &str) -> String {
        match self {
            Capability::Cluster => format!("{target} is no cluster"),
            Capability::Ingress => format!("{target} has no ingress controller"),
            Capability::Autoscaling => format!("{target} has no metrics to scale by"),
            Capability::NetworkPolicy => format!("{target} enforces no NetworkPolicies"),
            Capability::NodeControl => format!("the nodes of {target} are not ours to stop"),
            Capability::Gitops => format!("{target} has no Argo CD"),
            Capability::Watched => format!("nobody watches the parts of {target}"),
            Capability::BlueGreen => {
                format!("no service of {target} is on two colours and ours to break")
            }
            Capability::Allowed(action) => {
                format!("the target {target} does not allow {:?}", action.name())
            }
        }
    }
}
