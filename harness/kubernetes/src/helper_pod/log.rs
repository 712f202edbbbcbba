//! The log of a helper pod, line by line.

use std::ops::ControlFlow;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use tokio::time::sleep;

use super::current_state;
use base::wait::Observation;

const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Passes the lines of a pod's log to `line` until the pod has finished. Returns the cluster's
/// reason for its end, or none if `line` breaks. A log that breaks off, as when the API server
/// restarts, is read again from its start.
pub async fn follow_log(
    pods: Api<Pod>,
    pod: String,
    mut line: impl FnMut(String) -> ControlFlow<()>,
) -> Option<String> {
    loop {
        // Before its log is read: a pod that finishes meanwhile may have written more.
        let state = current_state(pods.clone(), pod.clone()).await;
        if read(&pods, &pod, &mut line).await.is_break() {
            return None;
        }
        if let Observation::Failed(reason) = state {
            return Some(reason);
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn read(
    pods: &Api<Pod>,
    pod: &str,
    line: &mut impl FnMut(String) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let parameters = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let Ok(log) = pods.log_stream(pod, &parameters).await else {
        return ControlFlow::Continue(());
    };
    let log = std::pin::pin!(log);
    let mut lines = log.lines();
    while let Some(Ok(text)) = lines.next().await {
        line(text)?;
    }
    ControlFlow::Continue(())
}

/// Returns the last log line of one of the selected pods, for the end of a message; may be empty.
pub(super) async fn last_line(pods: &Api<Pod>, selected: &ListParams) -> String {
    let last = LogParams {
        tail_lines: Some(1),
        ..LogParams::default()
    };
    let listed = pods.list(selected).await.map(|list| list.items);
    for pod in listed.unwrap_or_default() {
        let log = pods.logs(&pod.name_any(), &last).await.unwrap_or_default();
        if !log.trim().is_empty() {
            return format!("; its last output: {}", log.trim());
        }
    }
    String::new()
}
