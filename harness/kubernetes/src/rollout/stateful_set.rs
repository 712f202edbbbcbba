//! Whether a StatefulSet's rollout is complete, as `kubectl rollout status` judges it.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#rolling-updates>

use k8s_openapi::api::apps::v1::StatefulSet;

use super::{ON_DELETE, Rollout, incomplete, not_begun};
use crate::workloads::Workloads;

pub(super) fn wanted(set: &StatefulSet) -> i32 {
    // Kubernetes' own default.
    set.spec.replicas.unwrap_or(1)
}

pub(super) fn state_of(workloads: &Workloads, set: &StatefulSet) -> Rollout {
    let status = set.status.clone().unwrap_or_default();
    if status.observed_generation < set.metadata.generation {
        return not_begun();
    }
    let wanted = wanted(set);
    let ready = status.ready_replicas.unwrap_or(0);
    let updated = status.updated_replicas.unwrap_or(0);
    let is_updated = match partition(set) {
        _ if strategy(set) == Some(ON_DELETE) => true,
        // The pods with a lower number keep their template.
        Some(partition) => updated >= wanted - partition,
        None => status.update_revision == status.current_revision,
    };
    match ready >= wanted && is_updated {
        true => Rollout::Complete,
        false => {
            let so_far = format!("{ready}/{wanted} ready, {updated} updated");
            incomplete(workloads, set, so_far)
        }
    }
}

fn strategy(set: &StatefulSet) -> Option<&str> {
    set.spec.update_strategy.as_ref()?.type_.as_deref()
}

fn partition(set: &StatefulSet) -> Option<i32> {
    let strategy = set.spec.update_strategy.as_ref()?;
    strategy.rolling_update.as_ref()?.partition
}
