//! Whether a full quota will get room by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::workload_problem::{Cause, WorkloadProblem};
use super::workloads::Workloads;

/// How long a quota may stay full while no pod starts or terminates. Pods count until they are
/// deleted, and the pauses between a controller's retries grow to this.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Watches a full quota. During a rollout there are more pods than before and after it, so a quota
/// may be full for a while without harm.
#[derive(Debug, Default)]
pub struct FullQuota {
    since: Option<Instant>,
}

impl FullQuota {
    /// Whether waiting no longer helps, judged by this read and the earlier ones.
    pub fn is_permanent(
        &mut self,
        problem: Option<&WorkloadProblem>,
        workloads: &Workloads,
    ) -> bool {
        let is_full = problem.is_some_and(|problem| problem.cause == Cause::Quota);
        if !is_full || workloads.is_moving() {
            self.since = None;
            return false;
        }
        self.since.get_or_insert_with(Instant::now).elapsed() >= TIMEOUT
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn full() -> WorkloadProblem {
        let message = "pods \"x\" is forbidden: exceeded quota: q".to_owned();
        WorkloadProblem::no_pods(
            "replicaset/x".to_owned(),
            "FailedCreate".to_owned(),
            message,
        )
    }

    fn pods(pods: Value) -> Workloads {
        Workloads {
            pods: serde_json::from_value(pods).unwrap(),
            ..Workloads::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_quota_is_permanent_once_no_pod_moves() {
        let still = pods(
            json!([{"metadata": {"name": "a"}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]}}]),
        );
        let ending =
            pods(json!([{"metadata": {"name": "a", "deletionTimestamp": "2026-11-25T09:00:00Z"}}]));
        let starting = pods(json!([{"metadata": {"name": "a"}, "status": {"phase": "Pending"}}]));
        let mut quota = FullQuota::default();
        for moving in [&ending, &starting] {
            assert!(!quota.is_permanent(Some(&full()), &still));
            tokio::time::advance(TIMEOUT).await;
            assert!(!quota.is_permanent(Some(&full()), moving));
        }
        assert!(!quota.is_permanent(Some(&full()), &still));
        tokio::time::advance(TIMEOUT).await;
        assert!(quota.is_permanent(Some(&full()), &still));
        assert!(!quota.is_permanent(None, &still));
    }
}
