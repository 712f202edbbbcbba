//! One deployer for each service at a time: a Lease, as client-go's leader election uses it.
//!
//! Times of another machine are never compared with our clock. A lease is taken over only if it has
//! not changed for its whole duration, by our monotonic clock. Its holder stops earlier, by its
//! own.
//! <https://kubernetes.io/docs/concepts/architecture/leases/>,
//! <https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>

mod error;
mod holder;
mod lease;
mod renewal;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

pub use error::LeaseError;
pub use holder::{DeployerIdentity, LeaseHolder};

use kubernetes::Cluster;
use lease::Leases;
use renewal::{LockState, Moment};

/// Between two reads of a lease that another holds.
const PAUSE: Duration = Duration::from_millis(500);

/// The right to release a service. It is renewed until it is dropped.
pub struct ReleaseLock {
    leases: Leases,
    state: watch::Receiver<LockState>,
    renewal: AbortOnDropHandle<()>,
}

impl ReleaseLock {
    /// Takes the lease `SERVICE-blue-green` of the cluster's namespace. It lasts for `span` (whole
    /// seconds) after each renewal, and is renewed every third of that.
    ///
    /// A free lease, or one that `holder` has already, is taken immediately. A lease of another
    /// holder is watched, and `progress` receives a message. If it is not renewed for its whole
    /// duration, it is taken over.
    ///
    /// # Errors
    /// [`LeaseError::Held`] after about a third of the span if the holder renews it; the API
    /// server's error.
    pub async fn take(
        cluster: &Cluster,
        service: &str,
        holder: &DeployerIdentity,
        span: Duration,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<ReleaseLock, LeaseError> {
        let leases = Leases::new(cluster, service, holder, span);
        let mut watched: Option<WatchedLease> = None;
        // The loop ends: a lease is watched for its duration at most, and one that changes is held.
        loop {
            let begun = Moment::now();
            let found = leases.read().await?;
            let written = match &found {
                None => leases.create().await?,
                Some(lease) if leases.is_free(lease) => leases.take(lease).await?,
                Some(lease) => {
                    let watched = watched.get_or_insert_with(|| WatchedLease::from_now(lease));
                    if watched.has_changed(lease) {
                        return Err(LeaseError::Held {
                            service: service.to_owned(),
                            by: LeaseHolder::of(lease),
                        });
                    }
                    match watched.remaining() {
                        Some(remaining) => {
                            progress(&watched.message(remaining));
                            None
                        }
                        None => leases.take(lease).await?,
                    }
                }
            };
            if let Some(lease) = written {
                return Ok(ReleaseLock::taken(leases, lease, begun));
            }
            // Otherwise somebody has written it since we read it, or we watch it.
            sleep(PAUSE).await;
        }
    }

    /// Returns the holder of a service's lock, if there is one.
    ///
    /// # Errors
    /// The API server's error.
    pub async fn holder(
        cluster: &Cluster,
        service: &str,
    ) -> Result<Option<LeaseHolder>, LeaseError> {
        let lease = lease::read(cluster, service).await?;
        let holder = lease.as_ref().map(LeaseHolder::of);
        Ok(holder.filter(|it| !it.is_nobody()))
    }

    fn taken(leases: Leases, lease: Lease, at: Moment) -> ReleaseLock {
        let (sender, state) = watch::channel(LockState::Held(at));
        let renewing = renewal::keep(leases.clone(), lease, at, sender);
        ReleaseLock {
            leases,
            state,
            renewal: AbortOnDropHandle::new(tokio::spawn(renewing)),
        }
    }

    /// Waits until the lock is ours for at least [`ReleaseLock::leeway`]. Call this before every change,
    /// which must take no longer than that. The lock expires while the API server is away. Nobody
    /// can take it then, and it is ours again with the next renewal.
    ///
    /// # Errors
    /// The lock was lost: as [`ReleaseLock::lost`].
    pub async fn ours(&self) -> Result<(), LeaseError> {
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                LockState::Lost(error) => return Err(error.clone()),
                LockState::Held(renewed) if renewed.elapsed() < self.leases.ours_for() => {
                    return Ok(());
                }
                LockState::Held(_) => {}
            }
            if state.changed().await.is_err() {
                return Err(self.leases.not_renewed("its renewal has stopped"));
            }
        }
    }

    /// Returns the time for a change after [`ReleaseLock::ours`].
    pub fn leeway(&self) -> Duration {
        self.leases.leeway()
    }

    /// Waits until the lock is lost: another holder has it, it was deleted, or renewals failed for
    /// two minutes.
    pub fn lost(&self) -> impl Future<Output = LeaseError> + Send + use<> {
        let (mut state, leases) = (self.state.clone(), self.leases.clone());
        async move {
            let lost = state
                .wait_for(|state| matches!(state, LockState::Lost(_)))
                .await;
            match lost.as_deref() {
                Ok(LockState::Lost(error)) => error.clone(),
                Ok(LockState::Held(_)) | Err(_) => leases.not_renewed("its renewal has stopped"),
            }
        }
    }

    /// Releases the lock, so that the next deployer need not wait. After an error it expires.
    ///
    /// # Errors
    /// [`LeaseError::Taken`] and [`LeaseError::Deleted`] if it was no longer ours; the API server's
    /// error.
    pub async fn release(self) -> Result<(), LeaseError> {
        let leases = self.leases;
        drop(self.renewal);
        // A renewal that was in flight may be written after we read it.
        for _ in 0..3 {
            let lease = leases.read().await?.ok_or_else(|| leases.deleted())?;
            if !leases.is_ours(&lease) {
                return Err(leases.taken(&lease));
            }
            if leases.free(&lease).await?.is_some() {
                return Ok(());
            }
        }
        Err(leases.not_renewed("somebody else keeps writing it"))
    }
}

/// A lease of another holder, as first read.
struct WatchedLease {
    lease: Lease,
    since: Instant,
}

impl WatchedLease {
    fn from_now(lease: &Lease) -> WatchedLease {
        WatchedLease {
            lease: lease.clone(),
            since: Instant::now(),
        }
    }

    /// Whether the holder, the time of renewal, the number of transitions or the object has
    /// changed.
    fn has_changed(&self, lease: &Lease) -> bool {
        self.lease.spec != lease.spec || self.lease.metadata.uid != lease.metadata.uid
    }

    /// The time until it expires, as far as we know; none if it has expired.
    fn remaining(&self) -> Option<Duration> {
        let remaining = lease::lasts(&self.lease).checked_sub(self.since.elapsed())?;
        (!remaining.is_zero()).then_some(remaining)
    }

    fn message(&self, remaining: Duration) -> String {
        let seconds = remaining.as_millis().div_ceil(1_000);
        format!(
            "held by {}; taking over in {seconds} s if it is not renewed",
            LeaseHolder::of(&self.lease)
        )
    }
}

#[cfg(test)]
mod tests;
