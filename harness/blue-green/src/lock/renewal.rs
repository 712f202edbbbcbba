//! Renews a lease that is ours.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::error::LeaseError;
use super::lease::Leases;
use crate::retry::RETRIED_FOR;
use kubernetes::ClusterError;

/// The state of a lock.
#[derive(Debug)]
pub(super) enum LockState {
    /// Ours since the last renewal, at this time.
    Held(Moment),
    Lost(LeaseError),
}

/// A time, by both clocks of this machine: the monotonic clock stops while a machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    pub fn now() -> Moment {
        Moment {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The time by the clock that shows more. A clock that was set back does not count.
    pub fn elapsed(&self) -> Duration {
        let wall = self.wall.elapsed().unwrap_or_default();
        self.monotonic.elapsed().max(wall)
    }
}

/// The result of one renewal.
enum Attempt {
    Renewed(Lease),
    /// Changed by somebody else, and still ours.
    Changed(Lease),
    Lost(LeaseError),
}

/// Renews `lease` until it is lost. `renewed` is the time before the last renewal's request, as
/// nobody can have read it earlier. A renewal is retried for [`RETRIED_FOR`], even after the lease
/// has expired: the resource version shows if somebody has taken it.
pub(super) async fn keep(
    leases: Leases,
    mut lease: Lease,
    mut renewed: Moment,
    sender: watch::Sender<LockState>,
) {
    let mut pause = leases.renewed_every();
    let mut cause = "the first attempt did not end".to_owned();
    let lost = loop {
        let end = renewed.monotonic + RETRIED_FOR.max(leases.ours_for());
        if Instant::now() + pause >= end {
            sleep_until(end).await;
            break leases.not_renewed(&cause);
        }
        sleep(pause).await;
        let begun = Moment::now();
        pause = leases.retried_every();
        // A dead connection must not use up the time for another attempt.
        let remaining = end.saturating_duration_since(Instant::now());
        let within = (leases.retried_every() * 3).min(remaining);
        match timeout(within, attempt(&leases, &lease)).await {
            Ok(Ok(Attempt::Renewed(new))) => {
                (lease, renewed) = (new, begun);
                pause = leases.renewed_every();
                sender.send_replace(LockState::Held(renewed));
            }
            Ok(Ok(Attempt::Changed(changed))) => {
                lease = changed;
                cause = "somebody else writes it".to_owned();
            }
            Ok(Ok(Attempt::Lost(error))) => break error,
            Ok(Err(error)) => cause = error.to_string(),
            Err(_) => cause = format!("the API server did not answer within {within:?}"),
        }
    };
    sender.send_replace(LockState::Lost(lost));
}

async fn attempt(leases: &Leases, lease: &Lease) -> Result<Attempt, ClusterError> {
    if let Some(renewed) = leases.renew(lease).await? {
        return Ok(Attempt::Renewed(renewed));
    }
    // The lease has changed. The answer to an earlier renewal of ours may have been lost.
    Ok(match leases.read().await? {
        None => Attempt::Lost(leases.deleted()),
        Some(lease) if leases.is_ours(&lease) => Attempt::Changed(lease),
        Some(lease) => Attempt::Lost(leases.taken(&lease)),
    })
}
