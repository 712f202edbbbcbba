//! Polls how many replicas of each colour are ready, for the report's charts.

use std::time::Duration;

use blue_green::Colour;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use super::setup::Setup;

/// The ready replicas at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyReplicas {
    /// When.
    pub at: Timestamp,
    /// Of each colour, in the order of [`Colour::ALL`].
    pub ready: [u64; 2],
}

/// Polls until it is dropped.
pub struct ReplicaWatch {
    polling: AbortOnDropHandle<()>,
    seen: tokio::sync::mpsc::UnboundedReceiver<ReadyReplicas>,
}

impl ReplicaWatch {
    /// Starts to poll.
    pub fn start(setup: &Setup<'_>) -> ReplicaWatch {
        const EVERY: Duration = Duration::from_millis(500);
        let api: Api<Deployment> = setup.api();
        let names = Colour::ALL.map(|it| setup.objects().deployment(it));
        let (send, seen) = tokio::sync::mpsc::unbounded_channel();
        let polling = tokio::spawn(async move {
            let mut every = interval(EVERY);
            loop {
                every.tick().await;
                let [blue, green] = &names;
                // A failed read shows nothing.
                let Ok(both) = tokio::try_join!(api.get(blue), api.get(green)) else {
                    continue;
                };
                let ready = [both.0, both.1].map(|it| ready(&it));
                let at = Timestamp::now();
                if send.send(ReadyReplicas { at, ready }).is_err() {
                    return;
                }
            }
        });
        ReplicaWatch {
            polling: AbortOnDropHandle::new(polling),
            seen,
        }
    }

    /// Stops, and returns what was seen, in order.
    pub fn end(mut self) -> Vec<ReadyReplicas> {
        self.polling.abort();
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

fn ready(deployment: &Deployment) -> u64 {
    let status = deployment.status.as_ref();
    let ready = status.and_then(|it| it.ready_replicas).unwrap_or(0);
    u64::try_from(ready).unwrap_or(0)
}
