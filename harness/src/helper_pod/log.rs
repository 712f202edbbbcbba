//! What a pod of ours says: its log, line by line.

use std::ops::ControlFlow;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio::time::sleep;

use super::looked_at;
use crate::wait::Observation;

/// For a log that broke off to be asked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// Hands out the lines of a pod's log until the pod has ended: then how, in the cluster's words.
/// None where `line` has heard enough. A log that breaks off, as all do while the API server is
/// away, is read again from its start.
pub async fn hear(
    pods: Api<Pod>,
    pod: String,
    mut line: impl FnMut(String) -> ControlFlow<()>,
) -> Option<String> {
    loop {
        // Before its log is read: one that ends meanwhile may have said more.
        let looked = looked_at(pods.clone(), pod.clone()).await;
        if read(&pods, &pod, &mut line).await.is_break() {
            return None;
        }
        if let Observation::Hopeless(how) = looked {
            return Some(how);
        }
        sleep(AGAIN).await;
    }
}

async fn read(
    pods: &Api<Pod>,
    pod: &str,
    line: &mut impl FnMut(String) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let followed = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let Ok(log) = pods.log_stream(pod, &followed).await else {
        return ControlFlow::Continue(());
    };
    let log = std::pin::pin!(log);
    let mut lines = log.lines();
    while let Some(Ok(said)) = lines.next().await {
        line(said)?;
    }
    ControlFlow::Continue(())
}

/// The last line that one of these pods said, as the end of a sentence; empty where none did.
pub(super) async fn last_words(pods: &Api<Pod>, names: Vec<String>) -> String {
    let last = LogParams {
        tail_lines: Some(1),
        ..LogParams::default()
    };
    for pod in names {
        let log = pods.logs(&pod, &last).await.unwrap_or_default();
        if !log.trim().is_empty() {
            return format!("; it said: {}", log.trim());
        }
    }
    String::new()
}
