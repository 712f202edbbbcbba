//! Comparisons of load results, as text for a report, with units.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exit::ExitCode;

/// The verdict of a comparison, in ascending order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ComparisonVerdict {
    /// The whole interval lies within the floor.
    Unchanged,
    /// Like `Regressed`, but an improvement.
    Improved,
    /// The interval is too wide for a verdict.
    Inconclusive,
    /// The results cannot be compared.
    NotComparable,
    /// The interval excludes 0, and the change exceeds the floor.
    Regressed,
}

impl ComparisonVerdict {
    /// Every verdict, the most urgent first.
    pub const ALL: [ComparisonVerdict; 5] = [
        ComparisonVerdict::Regressed,
        ComparisonVerdict::NotComparable,
        ComparisonVerdict::Inconclusive,
        ComparisonVerdict::Improved,
        ComparisonVerdict::Unchanged,
    ];

    /// Returns the most urgent verdict of the rows, or `NotComparable` if there is an obstacle.
    pub fn of(
        obstacles: &[String],
        rows: impl Iterator<Item = ComparisonVerdict>,
    ) -> ComparisonVerdict {
        match obstacles {
            [] => rows.max().unwrap_or(ComparisonVerdict::NotComparable),
            _ => ComparisonVerdict::NotComparable,
        }
    }

    /// Returns the exit code of a command with this verdict: 98, 5, or 0.
    pub fn exit_code(self) -> ExitCode {
        match self {
            ComparisonVerdict::Unchanged | ComparisonVerdict::Improved => ExitCode::Held,
            ComparisonVerdict::Inconclusive | ComparisonVerdict::NotComparable => {
                ExitCode::Inconclusive
            }
            ComparisonVerdict::Regressed => ExitCode::Regression,
        }
    }
}

impl fmt::Display for ComparisonVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ComparisonVerdict::Unchanged => "unchanged",
            ComparisonVerdict::Improved => "improved",
            ComparisonVerdict::Inconclusive => "inconclusive",
            ComparisonVerdict::NotComparable => "not-comparable",
            ComparisonVerdict::Regressed => "regressed",
        })
    }
}

/// A comparison of two results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ComparisonSummary {
    /// The results: `7 pairs of runs`.
    pub of: String,
    /// The verdict.
    pub verdict: ComparisonVerdict,
    /// Why the results cannot be compared; then there are no rows.
    pub obstacles: Vec<String>,
    /// The metrics, by endpoint.
    pub rows: Vec<SummaryRow>,
}

/// One metric of one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SummaryRow {
    /// The endpoint's name.
    pub endpoint: String,
    /// The metric: `p95`.
    pub metric: String,
    /// The old value: `12.3 ms`; `-` if it is not known.
    pub a: String,
    /// The new value.
    pub b: String,
    /// The change and its interval: `+4.1 % (+1.0 % to +7.3 %)`.
    pub change: String,
    /// How much worse B is; none if it is not comparable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worse_by: Option<Interval>,
    /// The verdict.
    pub verdict: ComparisonVerdict,
    /// The reason.
    pub reason: String,
}

/// How much worse B is, in multiples of the smallest change that matters: above 1 it is a relevant
/// regression, below -1 a relevant improvement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The estimate.
    pub change: f64,
    /// The upper end.
    pub high: f64,
}

impl ComparisonSummary {
    /// Returns the number of rows by verdict: `2 regressed, 13 unchanged`.
    pub fn counted(&self) -> String {
        if self.rows.is_empty() {
            return ComparisonVerdict::NotComparable.to_string();
        }
        let counted = ComparisonVerdict::ALL.into_iter().filter_map(|verdict| {
            let rows = self.rows.iter().filter(|row| row.verdict == verdict);
            let rows = rows.count();
            (rows > 0).then(|| format!("{rows} {verdict}"))
        });
        let counted: Vec<String> = counted.collect();
        counted.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_and_improved_exit_with_0() {
        let codes = ComparisonVerdict::ALL.map(|verdict| u8::from(verdict.exit_code()));
        assert_eq!(codes, [98, 5, 5, 0, 0]);
    }

    #[test]
    fn the_most_urgent_verdict_comes_first() {
        assert!(ComparisonVerdict::ALL.is_sorted_by(|one, other| one > other));
    }
}
