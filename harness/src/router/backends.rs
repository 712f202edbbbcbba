//! Where requests for a service go.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The addresses that answer for a service, each in its turn. They are changed in one step:
/// what comes after goes to the new ones, and what is under way is left alone.
#[derive(Clone, Debug, Default)]
pub struct Backends(Arc<Mutex<Turns>>);

#[derive(Debug, Default)]
struct Turns {
    addresses: Vec<SocketAddr>,
    next: usize,
}

impl Backends {
    /// One that always answers.
    pub fn one(address: SocketAddr) -> Backends {
        let backends = Backends::default();
        backends.set(vec![address]);
        backends
    }

    /// These, from now on.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        self.turns().addresses = addresses;
    }

    /// Whose turn it is; none where nobody answers.
    pub fn next(&self) -> Option<SocketAddr> {
        let mut turns = self.turns();
        let at = turns.next.checked_rem(turns.addresses.len())?;
        turns.next = at + 1;
        Some(turns.addresses[at])
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        // A panic while it was held leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_and_changes_are_for_all_who_hold_it() {
        let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let backends = Backends::one(one);
        let same = backends.clone();
        assert_eq!([(); 2].map(|()| same.next()), [Some(one); 2]);
        backends.set(vec![one, two]);
        let mut seen = [(); 4].map(|()| same.next());
        seen.sort();
        assert_eq!(seen, [Some(one), Some(one), Some(two), Some(two)]);
        backends.set(Vec::new());
        assert_eq!(same.next(), None);
    }
}
