//! One deployer a service at a time: a Lease, as client-go's leader election uses it.
//!
//! Another machine's times are never compared with our clock. A lease is taken over only
//! when we have seen it unchanged, by our own monotonic clock, for as long as it says it
//! lasts; its holder stops before that, by its own.
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

pub use error::LockError;
pub use holder::Holder;
pub use lease::Held;

use crate::cluster::Cluster;
use lease::Leases;
use renewal::{Moment, State};

/// Between two looks at a lease that another holds.
const PAUSE: Duration = Duration::from_millis(500);

/// The right to release a service, held for as long as this lives.
pub struct Lock {
    leases: Leases,
    state: watch::Receiver<State>,
    renewal: AbortOnDropHandle<()>,
}

impl Lock {
    /// Takes the lease `SERVICE-blue-green` of the cluster's namespace, to last for `span`
    /// (whole seconds) after each renewal; it is renewed every third of that.
    ///
    /// One that is free, or that `holder` has already, is had at once. One that another
    /// holds is watched, and `progress` told of it: until it is renewed, which is an error,
    /// or taken over when it was not for as long as it lasts.
    ///
    /// # Errors
    /// [`LockError::Held`] within a third of the span or so when the holder is alive, and
    /// what the API server said.
    pub async fn take(
        cluster: &Cluster,
        service: &str,
        holder: &Holder,
        span: Duration,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Lock, LockError> {
        let leases = Leases::new(cluster, service, holder, span);
        let mut watched: Option<Watched> = None;
        // It ends: a lease is watched for as long as it lasts, and one that changes is held.
        loop {
            let begun = Moment::now();
            let found = leases.read().await?;
            let written = match &found {
                None => leases.create().await?,
                Some(lease) if leases.is_free(lease) => leases.take(lease).await?,
                Some(lease) => {
                    let watched = watched.get_or_insert_with(|| Watched::from_now(lease));
                    if watched.has_changed(lease) {
                        return Err(LockError::held(service, Held::of(lease)));
                    }
                    match watched.left() {
                        Some(left) => {
                            progress(&watched.told(left));
                            None
                        }
                        None => leases.take(lease).await?,
                    }
                }
            };
            if let Some(lease) = written {
                return Ok(Lock::kept(leases, lease, begun));
            }
            // Else another wrote it between our look and our word, or we watch.
            sleep(PAUSE).await;
        }
    }

    /// Who holds the lock of a service, if anybody does.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn held(cluster: &Cluster, service: &str) -> Result<Option<Held>, LockError> {
        let lease = lease::read(cluster, service).await?;
        Ok(lease.as_ref().map(Held::of).filter(Held::by_anybody))
    }

    fn kept(leases: Leases, lease: Lease, taken: Moment) -> Lock {
        let (tell, state) = watch::channel(State::Held(taken));
        let keeping = renewal::keep(leases.clone(), lease, taken, tell);
        Lock {
            leases,
            state,
            renewal: AbortOnDropHandle::new(tokio::spawn(keeping)),
        }
    }

    /// Waits until it is ours with time left: to be asked before every change, which must
    /// take no longer than [`Lock::leeway`]. While the API server is away it lapses; nobody
    /// can take it then, and it is ours again with the next renewal.
    ///
    /// # Errors
    /// Why it is not any more: as [`Lock::lost`].
    pub async fn ours(&self) -> Result<(), LockError> {
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                State::Lost(error) => return Err(error.clone()),
                State::Held(renewed) if renewed.elapsed() < self.leases.ours_for() => return Ok(()),
                State::Held(_) => {}
            }
            if state.changed().await.is_err() {
                return Err(self.leases.not_renewed("nobody renews it any more"));
            }
        }
    }

    /// What is left of its span when [`Lock::ours`] says so last.
    pub fn leeway(&self) -> Duration {
        self.leases.leeway()
    }

    /// Ends when the lock is lost: another holder has it, it was deleted, or it could not be
    /// renewed for two minutes.
    pub fn lost(&self) -> impl Future<Output = LockError> + Send + use<> {
        let (mut state, leases) = (self.state.clone(), self.leases.clone());
        async move {
            let lost = state
                .wait_for(|state| matches!(state, State::Lost(_)))
                .await;
            match lost.as_deref() {
                Ok(State::Lost(error)) => error.clone(),
                Ok(State::Held(_)) | Err(_) => leases.not_renewed("nobody renews it any more"),
            }
        }
    }

    /// Gives the lock up, so that the next need not wait.
    ///
    /// # Errors
    /// [`LockError::Taken`] and [`LockError::Deleted`] when it was not ours any more, and
    /// what the API server said; it ends by itself then.
    pub async fn release(self) -> Result<(), LockError> {
        let Lock {
            leases, renewal, ..
        } = self;
        drop(renewal);
        // A renewal that was under way may be written after our look.
        for _ in 0..3 {
            let lease = leases.read().await?.ok_or_else(|| leases.deleted())?;
            if !leases.is_ours(&lease) {
                return Err(leases.taken(&lease));
            }
            if leases.free(&lease).await?.is_some() {
                return Ok(());
            }
        }
        Err(leases.not_renewed("it is written all the time by somebody else"))
    }
}

/// A lease of another, as first seen.
struct Watched {
    lease: Lease,
    since: Instant,
}

impl Watched {
    fn from_now(lease: &Lease) -> Watched {
        Watched {
            lease: lease.clone(),
            since: Instant::now(),
        }
    }

    /// Whether anything of it is another: the holder, the time of its renewal, the count of
    /// its transitions, or the whole of it.
    fn has_changed(&self, lease: &Lease) -> bool {
        self.lease.spec != lease.spec || self.lease.metadata.uid != lease.metadata.uid
    }

    /// For how long it still may be its holder's, as far as we know.
    fn left(&self) -> Option<Duration> {
        let left = lease::lasts(&self.lease).saturating_sub(self.since.elapsed());
        (!left.is_zero()).then_some(left)
    }

    fn told(&self, left: Duration) -> String {
        let seconds = left.as_millis().div_ceil(1_000);
        format!(
            "held by {}; taking over in {seconds} s if it is not renewed",
            Held::of(&self.lease)
        )
    }
}

#[cfg(test)]
mod tests;
