//! Probers of an environment: one in this process, in front of the ingress, and one in the cluster,
//! as a pod. The crate [`prober`] sends the requests and evaluates the answers.
//!
//! Both are needed: an ingress hides failures by a retry at the next upstream, and clients in the
//! cluster do not use the ingress. No prober uses a port-forward, which pins one pod.

mod inside;
mod outside;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crate::helper_pod::Owner;
pub use ::prober::*;
pub use inside::{Inside, InsideError, PART, close_all, now, service};
pub use outside::{Outside, through};

/// The answers received so far, for readers while the prober runs.
#[derive(Clone, Default)]
pub struct Answers(Arc<Mutex<Vec<Answer>>>);

impl Answers {
    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers().extend(answers);
    }

    /// Returns what `evaluate` makes of the answers so far.
    pub fn look<T>(&self, evaluate: impl FnOnce(&[Answer]) -> T) -> T {
        evaluate(&self.answers())
    }

    fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut self.answers())
    }
}
