//! One attempt to release a version, with the deployer's events.

use blue_green::{BlueGreenError, Conclusion, EventKind, Operation, ReleaseEvent, ReleaseStep};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::setup::Setup;
use crate::Scenario;

/// A finished attempt.
pub struct Attempt {
    /// The deployer's events.
    pub log: EventLog,
    /// The result.
    pub conclusion: Result<Conclusion, BlueGreenError>,
}

/// Tries to release `version`. The deployer waits for `on_event` after each event.
pub async fn attempt(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    version: &str,
    on_event: &mut impl AsyncFnMut(&ReleaseEvent),
) -> Attempt {
    let never = CancellationToken::new();
    attempt_until(setup, scenario, version, never, on_event).await
}

/// As [`attempt`], but `cancelled` cancels it.
pub async fn attempt_until(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    version: &str,
    cancelled: CancellationToken,
    on_event: &mut impl AsyncFnMut(&ReleaseEvent),
) -> Attempt {
    let mut log = EventLog::default();
    let deployer = setup.deployer(setup.release, cancelled);
    let manual = false;
    let deploy = Operation::Deploy { version, manual };
    let conclusion = deployer
        .run(deploy, &mut async |event: &ReleaseEvent| {
            scenario.progress(&event.what.to_string());
            log.0.push(event.clone());
            on_event(event).await;
        })
        .await;
    Attempt { log, conclusion }
}

/// As [`attempt`], without a callback.
pub async fn release(setup: &Setup<'_>, scenario: &mut Scenario<'_>, version: &str) -> Attempt {
    attempt(setup, scenario, version, &mut async |_: &ReleaseEvent| {}).await
}

/// The deployer's events during one release.
#[derive(Debug, Default)]
pub struct EventLog(Vec<ReleaseEvent>);

impl EventLog {
    /// Returns when the deployer sent the first patch that moves traffic.
    pub fn patched(&self) -> Option<Timestamp> {
        self.0.iter().find_map(|it| match &it.what {
            EventKind::Patched { sent, .. } => Some(*sent),
            _ => None,
        })
    }

    /// Returns when the deployer set the share of traffic for the new colour.
    pub fn canary_weight_set(&self) -> Option<Timestamp> {
        let is_it = |it: &&ReleaseEvent| matches!(it.what, EventKind::CanaryWeightSet { .. });
        self.0.iter().find(is_it).map(|it| it.at)
    }

    /// Returns when a step began.
    pub fn began(&self, step: ReleaseStep) -> Option<Timestamp> {
        let is_it =
            |it: &&ReleaseEvent| matches!(&it.what, EventKind::Began { step: its } if *its == step);
        self.0.iter().find(is_it).map(|it| it.at)
    }

    /// Returns the time from the breach to the end of the revert, in milliseconds.
    pub fn reverted(&self) -> Option<u64> {
        self.0.iter().find_map(|it| match &it.what {
            EventKind::Reverted { millis, .. } => Some(*millis),
            _ => None,
        })
    }
}
