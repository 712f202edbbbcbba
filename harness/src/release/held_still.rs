//! Services held still while helm applies the platform: what it rendered before a switch
//! would set the idle colour back after it.

use std::time::Duration;

use super::live::Live;
use crate::blue_green::lock::{Holder, Lock, LockError};
use crate::cluster::Cluster;

/// So long does a deployer wait for a deployment that was killed.
const LEASE: Duration = Duration::from_secs(30);

/// The locks of services that are released blue-green.
pub(super) struct HeldStill(Vec<Lock>);

impl HeldStill {
    /// Takes the lock of each.
    ///
    /// # Errors
    /// [`LockError::Held`] where one is being released; none is held then.
    pub async fn take(
        cluster: &Cluster,
        live: &[Live],
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<HeldStill, LockError> {
        let holder = Holder::this("deploy");
        let mut held = HeldStill(Vec::new());
        for Live { service, .. } in live {
            match Lock::take(cluster, service.name(), &holder, LEASE, progress).await {
                Ok(lock) => held.0.push(lock),
                Err(error) => {
                    held.give_up().await;
                    return Err(error);
                }
            }
        }
        Ok(held)
    }

    /// Gives them up, so that nobody need wait.
    pub async fn give_up(self) {
        for lock in self.0 {
            // One that is not to be given up ends by itself.
            let _ = lock.release().await;
        }
    }
}
