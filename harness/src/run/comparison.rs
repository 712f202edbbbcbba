//! Load results held against each other, as a report tells it: in words, with their units.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exit::ExitCode;

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
    /// Every verdict, what must be looked at first at the begin.
    pub const ALL: [Verdict; 5] = [
        Verdict::Regressed,
        Verdict::NotComparable,
        Verdict::Inconclusive,
        Verdict::Improved,
        Verdict::Unchanged,
    ];

    /// What rows come to together: the one that must be looked at first decides, and an obstacle
    /// before any of them.
    pub fn of(obstacles: &[String], rows: impl Iterator<Item = Verdict>) -> Verdict {
        match obstacles {
            [] => rows.max().unwrap_or(Verdict::NotComparable),
            _ => Verdict::NotComparable,
        }
    }

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

/// One side held against the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Of what: `7 pairs of runs`.
    pub of: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why nothing can be compared; then there are no rows.
    pub obstacles: Vec<String>,
    /// By endpoint, then metric.
    pub rows: Vec<Row>,
}

/// One metric of one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The endpoint's name.
    pub endpoint: String,
    /// What of it: `p95`.
    pub metric: String,
    /// What it was: `12.3 ms`; `-` where it is not known.
    pub a: String,
    /// What it is now.
    pub b: String,
    /// From one to the other, and its interval: `+4.1 % (+1.0 % to +7.3 %)`.
    pub change: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

impl Comparison {
    /// The verdicts counted: `2 regressed, 13 unchanged`.
    pub fn counted(&self) -> String {
        let counted = Verdict::ALL.into_iter().filter_map(|verdict| {
            let rows = self.rows.iter().filter(|row| row.verdict == verdict);
            match rows.count() {
                0 => None,
                some => Some(format!("{some} {verdict}")),
            }
        });
        let counted: Vec<String> = counted.collect();
        match counted.is_empty() {
            true => Verdict::NotComparable.to_string(),
            false => counted.join(", "),
        }
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

    #[test]
    fn what_must_be_looked_at_first_is_counted_first() {
        assert!(Verdict::ALL.is_sorted_by(|one, other| one > other));
    }
}
