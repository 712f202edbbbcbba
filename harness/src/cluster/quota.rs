//! When a full quota will not get room by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::trouble::{Cause, Trouble};
use super::workloads::Workloads;

/// How long a quota may stay full while no pod starts or ends. Pods count until they are
/// gone, and whoever was refused one tries again after pauses that have grown to this.
const PATIENCE: Duration = Duration::from_secs(15);

/// Watches a quota that is full. A rollout has more pods than before and after it, so
/// that one may be full for a while and do no harm.
#[derive(Debug, Default)]
pub struct FullQuota {
    since: Option<Instant>,
}

impl FullQuota {
    /// Whether waiting is of no more use, as of this look and the ones before.
    pub fn is_hopeless(&mut self, trouble: Option<&Trouble>, workloads: &Workloads) -> bool {
        let is_full = trouble.is_some_and(|trouble| trouble.cause == Cause::Quota);
        if !is_full || workloads.is_moving() {
            self.since = None;
            return false;
        }
        self.since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn full() -> Trouble {
        let words = "pods \"x\" is forbidden: exceeded quota: q".to_owned();
        Trouble::no_pods("replicaset/x".to_owned(), "FailedCreate".to_owned(), words)
    }

    fn pods(pods: Value) -> Workloads {
        Workloads {
            pods: serde_json::from_value(pods).unwrap(),
            ..Workloads::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_hopeless_once_nothing_moves_any_more() {
        let still = pods(
            json!([{"metadata": {"name": "a"}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]}}]),
        );
        let ending =
            pods(json!([{"metadata": {"name": "a", "deletionTimestamp": "2026-11-25T09:00:00Z"}}]));
        let starting = pods(json!([{"metadata": {"name": "a"}, "status": {"phase": "Pending"}}]));
        let mut quota = FullQuota::default();
        for moving in [&ending, &starting] {
            assert!(!quota.is_hopeless(Some(&full()), &still));
            tokio::time::advance(PATIENCE).await;
            assert!(!quota.is_hopeless(Some(&full()), moving));
        }
        assert!(!quota.is_hopeless(Some(&full()), &still));
        tokio::time::advance(PATIENCE).await;
        assert!(quota.is_hopeless(Some(&full()), &still));
        assert!(!quota.is_hopeless(None, &still));
    }
}
