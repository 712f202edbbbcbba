//! The exit codes of `cargo xtask`: public, and the same for every command.

use serde::{Deserialize, Serialize};

use crate::run::counts::Counts;

/// How a command ended, as the number the shell sees.
///
/// | code | meaning |
/// |---|---|
/// | 0 | everything held |
/// | 1 | a check failed |
/// | 2 | bad usage or configuration |
/// | 3 | the environment could not be had (engine, image, target, tools) |
/// | 4 | refused by a guard rail |
/// | 5 | inconclusive: not enough evidence for a verdict |
/// | 6 | cleanup incomplete; the message lists what is left |
/// | 98 | a regression |
/// | 99 | a threshold failed (k6's code) |
/// | 130 | interrupted by SIGINT, after cleanup |
/// | 143 | terminated by SIGTERM, after cleanup |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum ExitCode {
    /// Everything held.
    Held = 0,
    /// A check failed.
    CheckFailed = 1,
    /// Bad usage or configuration.
    Usage = 2,
    /// The environment could not be had; or all held, and what was printed is lost (a full disk).
    NoEnvironment = 3,
    /// Refused by a guard rail.
    Refused = 4,
    /// Not enough evidence for a verdict.
    Inconclusive = 5,
    /// Cleanup incomplete.
    CleanupIncomplete = 6,
    /// A regression.
    Regression = 98,
    /// A threshold failed.
    ThresholdFailed = 99,
    /// Interrupted by SIGINT (128 + 2).
    Interrupted = 130,
    /// Interrupted by SIGTERM (128 + 15).
    Terminated = 143,
}

impl ExitCode {
    /// What a run comes to that made these checks. Where all were skipped, nothing is proven.
    pub fn of_checks(checks: Counts) -> Self {
        match checks {
            Counts { failed: 1.., .. } => ExitCode::CheckFailed,
            Counts {
                inconclusive: 1.., ..
            } => ExitCode::Inconclusive,
            Counts {
                passed: 0,
                skipped: 1..,
                ..
            } => ExitCode::Inconclusive,
            _ => ExitCode::Held,
        }
    }

    /// Every code, in the order of the table.
    pub const ALL: [ExitCode; 11] = [
        ExitCode::Held,
        ExitCode::CheckFailed,
        ExitCode::Usage,
        ExitCode::NoEnvironment,
        ExitCode::Refused,
        ExitCode::Inconclusive,
        ExitCode::CleanupIncomplete,
        ExitCode::Regression,
        ExitCode::ThresholdFailed,
        ExitCode::Interrupted,
        ExitCode::Terminated,
    ];

    /// The code's meaning, as the README and `--help` word it.
    pub fn meaning(self) -> &'static str {
        match self {
            ExitCode::Held => "everything held",
            ExitCode::CheckFailed => "a check failed",
            ExitCode::Usage => "bad usage or configuration",
            ExitCode::NoEnvironment => {
                "the environment could not be had (engine, image, target, tools)"
            }
            ExitCode::Refused => "refused by a guard rail",
            ExitCode::Inconclusive => "inconclusive: not enough evidence for a verdict",
            ExitCode::CleanupIncomplete => "cleanup incomplete; the message lists what is left",
            ExitCode::Regression => "a regression",
            ExitCode::ThresholdFailed => "a threshold failed",
            ExitCode::Interrupted => "interrupted by SIGINT, after cleanup",
            ExitCode::Terminated => "terminated by SIGTERM, after cleanup",
        }
    }
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> u8 {
        code as u8
    }
}

impl TryFrom<u8> for ExitCode {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        ExitCode::ALL
            .into_iter()
            .find(|known| *known as u8 == code)
            .ok_or_else(|| format!("{code} is not an exit code of cargo xtask"))
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_says_the_same() {
        let readme = include_str!("../../README.md");
        for code in ExitCode::ALL {
            let row = format!("| {} | {} |", code as u8, code.meaning());
            assert!(readme.contains(&row), "the README lacks {row}");
        }
    }

    #[test]
    fn a_failed_check_counts_more_than_an_inconclusive_one_and_that_more_than_passes() {
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

    #[test]
    fn a_code_is_read_back_and_others_are_refused() {
        for code in ExitCode::ALL {
            assert_eq!(ExitCode::try_from(u8::from(code)), Ok(code));
        }
        assert!(ExitCode::try_from(7).is_err());
    }
}
