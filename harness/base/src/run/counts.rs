//! Counts of checks by outcome.

use serde::{Deserialize, Serialize};

use super::event::{CheckOutcome, StageResult};
use crate::exit::ExitCode;

/// Checks by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// The claim held.
    pub passed: usize,
    /// The claim did not hold.
    pub failed: usize,
    /// There was not enough evidence. Records of earlier versions do not have this field.
    #[serde(default)]
    pub inconclusive: usize,
    /// The claim could not be checked.
    pub skipped: usize,
}

impl Counts {
    /// Returns the number of checks.
    pub fn total(self) -> usize {
        self.passed + self.failed + self.inconclusive + self.skipped
    }

    /// Adds one check.
    pub fn add(&mut self, outcome: &CheckOutcome) {
        match outcome {
            CheckOutcome::Passed { .. } => self.passed += 1,
            CheckOutcome::Failed { .. } => self.failed += 1,
            CheckOutcome::Inconclusive { .. } => self.inconclusive += 1,
            CheckOutcome::Skipped { .. } => self.skipped += 1,
        }
    }
}

/// Omits the outcomes that did not occur: `1 failed, 11 passed`, or `no check ran`.
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = [
            (self.failed, "failed"),
            (self.inconclusive, "inconclusive"),
            (self.passed, "passed"),
            (self.skipped, "skipped"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, outcome)| format!("{count} {outcome}"))
        .collect::<Vec<_>>();
        match counts.is_empty() {
            true => f.pad("no check ran"),
            false => f.pad(&counts.join(", ")),
        }
    }
}

impl ExitCode {
    /// Returns the exit code of a run with these checks. If all were skipped, it is inconclusive.
    pub fn of_checks(checks: Counts) -> Self {
        match checks {
            Counts { failed: 1.., .. } => ExitCode::CheckFailed,
            Counts {
                inconclusive: 1.., ..
            }
            | Counts {
                passed: 0,
                skipped: 1..,
                ..
            } => ExitCode::Inconclusive,
            _ => ExitCode::Held,
        }
    }
}

impl StageResult {
    /// Returns the result of a stage with these checks.
    pub fn of_checks(checks: Counts) -> Self {
        match ExitCode::of_checks(checks) {
            ExitCode::Held => StageResult::Done,
            ExitCode::Inconclusive => StageResult::Inconclusive,
            _ => StageResult::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_outweighs_an_inconclusive_one_and_that_outweighs_passes() {
        let of = |passed, failed, inconclusive| {
            ExitCode::of_checks(Counts {
                passed,
                failed,
                inconclusive,
                skipped: 1,
            })
        };
        assert_eq!(of(3, 0, 0), ExitCode::Held);
        assert_eq!(of(3, 0, 2), ExitCode::Inconclusive);
        assert_eq!(of(3, 1, 2), ExitCode::CheckFailed);
        assert_eq!(of(0, 0, 0), ExitCode::Inconclusive, "all skipped");
        // Commands that make no checks.
        assert_eq!(ExitCode::of_checks(Counts::default()), ExitCode::Held);
    }
}
