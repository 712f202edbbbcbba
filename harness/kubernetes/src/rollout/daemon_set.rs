//! Whether a DaemonSet's rollout is complete, as `kubectl rollout status` judges it.
//! <https://kubernetes.io/docs/tasks/manage-daemon/update-daemon-set/>

use k8s_openapi::api::apps::v1::DaemonSet;

use super::{ON_DELETE, Rollout, incomplete, not_begun};
use crate::workloads::Workloads;

/// One pod for each node that it selects.
pub(super) fn wanted(set: &DaemonSet) -> i32 {
    let status = set.status.as_ref();
    status.map_or(0, |it| it.desired_number_scheduled)
}

pub(super) fn state_of(workloads: &Workloads, set: &DaemonSet) -> Rollout {
    let status = set.status.clone().unwrap_or_default();
    if status.observed_generation < set.metadata.generation {
        return not_begun();
    }
    let wanted = wanted(set);
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let available = status.number_available.unwrap_or(0);
    let is_updated = updated >= wanted || strategy(set) == Some(ON_DELETE);
    match available >= wanted && is_updated {
        true => Rollout::Complete,
        false => {
            let so_far = format!("{available}/{wanted} available, {updated} updated");
            incomplete(workloads, set, so_far)
        }
    }
}

fn strategy(set: &DaemonSet) -> Option<&str> {
    set.spec.update_strategy.as_ref()?.type_.as_deref()
}
