//! The addresses of a service.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The addresses of a service, in rotation. A change applies to later requests only.
#[derive(Clone, Debug, Default)]
pub struct Backends(Arc<Mutex<Turns>>);

#[derive(Debug, Default)]
struct Turns {
    addresses: Vec<SocketAddr>,
    next: usize,
}

impl Backends {
    /// Creates the backends of a service with one address.
    pub fn one(address: SocketAddr) -> Backends {
        let backends = Backends::default();
        backends.set(vec![address]);
        backends
    }

    /// Replaces the addresses.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        self.turns().addresses = addresses;
    }

    /// Returns the next address in rotation, if there is any.
    pub fn next(&self) -> Option<SocketAddr> {
        let mut turns = self.turns();
        let at = turns.next.checked_rem(turns.addresses.len())?;
        turns.next = at + 1;
        Some(turns.addresses[at])
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        // The value is consistent also after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_rotate_and_changes_apply_to_every_clone() {
        let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let backends = Backends::one(one);
        let same = backends.clone();
        assert_eq!([(); 2].map(|()| same.next()), [Some(one); 2]);
        backends.set(vec![one, two]);
        let mut chosen = [(); 4].map(|()| same.next());
        chosen.sort();
        assert_eq!(chosen, [Some(one), Some(one), Some(two), Some(two)]);
        backends.set(Vec::new());
        assert_eq!(same.next(), None);
    }
}
