//! The exit codes of `cargo xtask`. They are part of its interface, and the same for every command.

use serde::{Deserialize, Serialize};

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("enum" = ExitCode::ALL)))]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum ExitCode {
    /// Everything held.
    Held = 0,
    /// A check failed.
    CheckFailed = 1,
    /// Bad usage or configuration.
    Usage = 2,
    /// The environment is not available. Also: all held, but the output is lost (a full disk).
    NoEnvironment = 3,
    /// Refused by a guard rail.
    Refused = 4,
    /// There is not enough evidence for a verdict.
    Inconclusive = 5,
    /// Cleanup is incomplete.
    CleanupIncomplete = 6,
    /// A regression.
    Regression = 98,
    /// A threshold failed (k6's code).
    ThresholdFailed = 99,
    /// Interrupted by SIGINT (128 + 2), after cleanup.
    Interrupted = 130,
    /// Terminated by SIGTERM (128 + 15), after cleanup.
    Terminated = 143,
}

impl ExitCode {
    /// Every code, in ascending order.
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

    /// Returns the code's meaning, as in the README and in `--help`.
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
    fn the_readme_lists_every_code() {
        let readme = include_str!("../../../README.md");
        for code in ExitCode::ALL {
            let row = format!("| {} | {} |", code as u8, code.meaning());
            assert!(readme.contains(&row), "the README lacks {row}");
        }
    }

    #[test]
    fn a_code_converts_back_and_others_are_refused() {
        for code in ExitCode::ALL {
            assert_eq!(ExitCode::try_from(u8::from(code)), Ok(code));
        }
        assert!(ExitCode::try_from(7).is_err());
    }
}
