//! Checks, counted.

use serde::{Deserialize, Serialize};

use super::event::Outcome;

/// Checks, counted by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The claim held.
    pub passed: usize,
    /// The claim did not hold.
    pub failed: usize,
    /// There was not enough evidence either way. Records of before had none.
    #[serde(default)]
    pub inconclusive: usize,
    /// The claim could not be looked at.
    pub skipped: usize,
}

impl Counts {
    /// All of them.
    pub fn total(self) -> usize {
        self.passed + self.failed + self.inconclusive + self.skipped
    }

    /// Counts one more.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed { .. } => self.passed += 1,
            Outcome::Failed { .. } => self.failed += 1,
            Outcome::Inconclusive { .. } => self.inconclusive += 1,
            Outcome::Skipped { .. } => self.skipped += 1,
        }
    }
}

/// Leaves out what there is none of: `1 failed, 11 passed`, or `no check ran`.
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = [
            (self.failed, "failed"),
            (self.inconclusive, "inconclusive"),
            (self.passed, "passed"),
            (self.skipped, "skipped"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, outcome)| format!("{count} {outcome}"))
        .collect::<Vec<_>>();
        match words.is_empty() {
            true => f.pad("no check ran"),
            false => f.pad(&words.join(", ")),
        }
    }
}
