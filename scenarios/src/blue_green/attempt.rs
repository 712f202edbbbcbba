//! A release that is followed.

use harness::blue_green::{BlueGreenError, Conclusion, Event};

use tokio_util::sync::CancellationToken;

use super::ground::Ground;
use super::log::Log;
use crate::Scenario;

/// How a release ended, with what its deployer told.
pub struct Tried {
    /// What it told.
    pub log: Log,
    /// How it ended.
    pub concluded: Result<Conclusion, BlueGreenError>,
}

/// Tries to release `version`. `meanwhile` is told, and waited for, before anything goes on.
pub async fn attempt(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    version: &str,
    meanwhile: &mut impl AsyncFnMut(&Event),
) -> Tried {
    let never = CancellationToken::new();
    attempt_until(ground, scenario, version, never, meanwhile).await
}

/// The same, until it is called off.
pub async fn attempt_until(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    version: &str,
    called_off: CancellationToken,
    meanwhile: &mut impl AsyncFnMut(&Event),
) -> Tried {
    let mut log = Log::default();
    let concluded = ground
        .release(version, called_off, &mut async |event: &Event| {
            scenario.progress(&event.what.to_string());
            log.keep(event);
            meanwhile(event).await;
        })
        .await;
    Tried { log, concluded }
}

/// The same, with nothing to do meanwhile.
pub async fn release(ground: &Ground<'_>, scenario: &mut Scenario<'_>, version: &str) -> Tried {
    attempt(ground, scenario, version, &mut async |_: &Event| {}).await
}
