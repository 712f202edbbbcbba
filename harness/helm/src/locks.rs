//! The blue-green locks that a deployment holds while helm applies the platform. Otherwise
//! manifests from before a switch would reset the idle colour after it.

use std::time::Duration;

use super::live::Live;
use blue_green::lock::{DeployerIdentity, LeaseError, ReleaseLock};
use kubernetes::Cluster;

/// How long a deployer waits after a deployment was killed.
const LEASE: Duration = Duration::from_secs(30);

/// The locks of all services that are released blue-green.
pub(super) struct HeldLocks(Vec<ReleaseLock>);

impl HeldLocks {
    /// Takes the lock of each service.
    ///
    /// # Errors
    /// [`LeaseError::Held`] if a service is being released. No lock is held then.
    pub async fn take(
        cluster: &Cluster,
        live: &[Live],
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<HeldLocks, LeaseError> {
        let holder = DeployerIdentity::this("deploy");
        let mut locks = HeldLocks(Vec::new());
        for Live { service, .. } in live {
            match ReleaseLock::take(cluster, service, &holder, LEASE, progress).await {
                Ok(lock) => locks.0.push(lock),
                Err(error) => {
                    locks.release().await;
                    return Err(error);
                }
            }
        }
        Ok(locks)
    }

    /// Releases the locks, so that nobody has to wait.
    pub async fn release(self) {
        for lock in self.0 {
            // Otherwise it expires.
            let _ = lock.release().await;
        }
    }
}
