//! What an environment supports. Scenarios require capabilities, and never check which target
//! they run on.

use serde::{Deserialize, Serialize};

use kubernetes::Action;

/// Something that not every environment supports or permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// A Kubernetes API that answers.
    Cluster,
    /// An ingress controller that honours the chart's annotations.
    Ingress,
    /// Metrics for a HorizontalPodAutoscaler.
    Autoscaling,
    /// NetworkPolicies that are enforced.
    NetworkPolicy,
    /// Nodes that may be stopped and disconnected.
    NodeControl,
    /// Argo CD.
    Gitops,
    /// A supervisor that reports lost parts.
    Watched,
    /// A service with two colours that may be released, and broken on purpose.
    BlueGreen,
    /// Helm releases that may be upgraded, and broken on purpose.
    Upgrades,
    /// An action beyond reading.
    Allowed(Action),
}

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
            Capability::Upgrades => f.write_str("upgrades"),
            Capability::Allowed(action) => write!(f, "allow {}", action.name()),
        }
    }
}

impl Capability {
    /// The capabilities of the local target.
    pub const LOCAL: [Capability; 5] = [
        Capability::Watched,
        Capability::BlueGreen,
        Capability::Allowed(Action::Orders),
        Capability::Allowed(Action::Burst),
        Capability::Allowed(Action::Load),
    ];

    /// The capabilities of a kind cluster.
    pub const KIND: [Capability; 13] = [
        Capability::Cluster,
        Capability::Ingress,
        Capability::Autoscaling,
        Capability::NetworkPolicy,
        Capability::NodeControl,
        Capability::Watched,
        Capability::BlueGreen,
        Capability::Upgrades,
        Capability::Allowed(Action::Deploy),
        Capability::Allowed(Action::Orders),
        Capability::Allowed(Action::Burst),
        Capability::Allowed(Action::Inside),
        Capability::Allowed(Action::Load),
    ];

    /// Returns why `target` lacks it, to complete "skipped, because".
    pub fn reason_missing_on(self, target: &str) -> String {
        match self {
            Capability::Cluster => format!("{target} is no cluster"),
            Capability::Ingress => format!("{target} has no ingress controller"),
            Capability::Autoscaling => format!("{target} has no metrics to scale by"),
            Capability::NetworkPolicy => format!("{target} enforces no NetworkPolicies"),
            Capability::NodeControl => format!("the nodes of {target} may not be stopped"),
            Capability::Gitops => format!("{target} has no Argo CD"),
            Capability::Watched => format!("no supervisor watches the parts of {target}"),
            Capability::BlueGreen => {
                format!("{target} has no service with two colours that may be broken")
            }
            Capability::Upgrades => format!("{target} has no helm releases that may be broken"),
            Capability::Allowed(action) => {
                format!("the target {target} does not allow {:?}", action.name())
            }
        }
    }
}
