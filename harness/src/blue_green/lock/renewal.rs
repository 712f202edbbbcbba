//! Keeping a lease that is ours.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::error::LockError;
use super::lease::Leases;
use crate::blue_green::retry::ABSENCE;
use crate::cluster::ClusterError;

/// What is known of a lock that was ours.
#[derive(Debug)]
pub(super) enum State {
    /// It is, as of the last renewal.
    Held(Moment),
    /// It is not any more.
    Lost(LockError),
}

/// A time, by both clocks of this machine: the monotonic one, and the other as that one
/// stands still while a machine sleeps.
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

    /// The longer of the two. A clock that was set back says nothing.
    pub fn elapsed(&self) -> Duration {
        let wall = self.wall.elapsed().unwrap_or_default();
        self.monotonic.elapsed().max(wall)
    }
}

/// What came of one attempt.
enum Attempt {
    Renewed(Lease),
    /// Written by another hand, and still ours.
    Changed(Lease),
    Lost(LockError),
}

/// Renews `lease` in time, until it is lost. `renewed` is when it last was: the time before
/// the request, as nobody can have seen it earlier. It is tried for [`ABSENCE`], also when the
/// lease has lapsed: whoever takes it then is seen by the resource version.
pub(super) async fn keep(
    leases: Leases,
    mut lease: Lease,
    mut renewed: Moment,
    tell: watch::Sender<State>,
) {
    let mut pause = leases.renewed_every();
    let mut last = "the first attempt did not end".to_owned();
    let lost = loop {
        let end = renewed.monotonic + ABSENCE.max(leases.ours_for());
        if Instant::now() + pause >= end {
            sleep_until(end).await;
            break leases.not_renewed(&last);
        }
        sleep(pause).await;
        let begun = Moment::now();
        pause = leases.retried_every();
        // A connection that is dead must not take the time that another would have.
        let left = end.saturating_duration_since(Instant::now());
        let patience = (leases.retried_every() * 3).min(left);
        match timeout(patience, attempt(&leases, &lease)).await {
            Ok(Ok(Attempt::Renewed(new))) => {
                (lease, renewed) = (new, begun);
                pause = leases.renewed_every();
                tell.send_replace(State::Held(renewed));
            }
            Ok(Ok(Attempt::Changed(seen))) => {
                lease = seen;
                last = "it is written by somebody else".to_owned();
            }
            Ok(Ok(Attempt::Lost(error))) => break error,
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("the API server did not answer within {patience:?}"),
        }
    };
    tell.send_replace(State::Lost(lost));
}

async fn attempt(leases: &Leases, lease: &Lease) -> Result<Attempt, ClusterError> {
    if let Some(renewed) = leases.renew(lease).await? {
        return Ok(Attempt::Renewed(renewed));
    }
    // Refused; or an earlier renewal of ours arrived, and only its answer did not.
    Ok(match leases.read().await? {
        None => Attempt::Lost(leases.deleted()),
        Some(seen) if leases.is_ours(&seen) => Attempt::Changed(seen),
        Some(seen) => Attempt::Lost(leases.taken(&seen)),
    })
}
