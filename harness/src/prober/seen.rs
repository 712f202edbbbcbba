//! Answers as they come in, for whoever looks meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::prober::Answer;

/// Answers as they come in.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<Answer>>>);

impl Seen {
    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers().extend(answers);
    }

    /// What is made of all that there are.
    pub fn look<T>(&self, made_of: impl FnOnce(&[Answer]) -> T) -> T {
        made_of(&self.answers())
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.answers().len()).unwrap_or(u64::MAX)
    }

    pub(super) fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut self.answers())
    }
}
