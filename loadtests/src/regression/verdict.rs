//! What a comparison comes to.

use std::fmt;

use harness::exit::ExitCode;
use serde::{Deserialize, Serialize};

/// What a comparison comes to, from the best to what must be looked at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole interval lies within the floor.
    Unchanged,
    /// As `Regressed`, for the better.
    Improved,
    /// The interval is too wide to say.
    Inconclusive,
    /// The results do not bear a comparison.
    NotComparable,
    /// The interval excludes 0, and the change exceeds the floor.
    Regressed,
}

impl Verdict {
    /// How a command ends that comes to this: with 98, 5, or 0.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Verdict::Unchanged | Verdict::Improved => ExitCode::Held,
            Verdict::Inconclusive | Verdict::NotComparable => ExitCode::Inconclusive,
            Verdict::Regressed => ExitCode::Regression,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Unchanged => "unchanged",
            Verdict::Improved => "improved",
            Verdict::Inconclusive => "inconclusive",
            Verdict::NotComparable => "not-comparable",
            Verdict::Regressed => "regressed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_no_worse_ends_well() {
        let code = |verdict: Verdict| u8::from(verdict.exit_code());
        assert_eq!(code(Verdict::Unchanged), 0);
        assert_eq!(code(Verdict::Improved), 0);
        assert_eq!(code(Verdict::Inconclusive), 5);
        assert_eq!(code(Verdict::NotComparable), 5);
        assert_eq!(code(Verdict::Regressed), 98);
    }
}
