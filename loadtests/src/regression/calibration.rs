//! The changes that can be detected, measured by comparing a version with itself.

use std::fmt;

use base::exit::ExitCode;
use serde::{Deserialize, Serialize};

use super::comparison::{Comparison, Row};
use super::table::name_width;
use super::{ComparisonVerdict, Settings, compare_pairs};
use crate::result::LoadResult;

/// A version compared with itself, and the smallest change that is detected in 19 of 20 cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calibration {
    /// Its rows have [`Numbers::smallest_visible`](super::Numbers::smallest_visible).
    pub comparison: Comparison,
}

/// Compares a version with itself, by pairs of its runs.
pub fn calibrate(pairs: &[(LoadResult, LoadResult)], settings: &Settings) -> Calibration {
    let mut comparison = compare_pairs(pairs, settings);
    let mut pairs = pairs.iter();
    let changed = pairs.find(|(a, b)| a.fingerprint.versions != b.fingerprint.versions);
    if let Some((a, b)) = changed {
        let (a, b) = (&a.run, &b.run);
        let why = format!("the runs {a} and {b} of a pair have different versions");
        comparison.obstacles.push(why);
        comparison.rows.clear();
    }
    Calibration { comparison }
}

impl Calibration {
    /// Returns the rows that are reported as changed, although nothing changed.
    pub fn false_alarms(&self) -> impl Iterator<Item = &Row> {
        let changed = |row: &&Row| {
            matches!(
                row.verdict,
                ComparisonVerdict::Regressed | ComparisonVerdict::Improved
            )
        };
        self.comparison.rows.iter().filter(changed)
    }

    /// Returns 0 if each row shows what can be detected, else 5.
    pub fn exit_code(&self) -> ExitCode {
        let rows = &self.comparison.rows;
        let all = !rows.is_empty() && rows.iter().all(|row| row.numbers.is_some());
        match all && self.false_alarms().next().is_none() {
            true => ExitCode::Held,
            false => ExitCode::Inconclusive,
        }
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = &self.comparison.of;
        writeln!(
            f,
            "{of} of one version: the smallest change that is detected in 19 of 20 cases"
        )?;
        for obstacle in &self.comparison.obstacles {
            writeln!(f, "not comparable: {obstacle}")?;
        }
        let rows = &self.comparison.rows;
        if rows.is_empty() {
            return Ok(());
        }
        let width = name_width(rows);
        writeln!(
            f,
            "\n{:<width$}  {:<11}  {:>9}  {:>9}  smallest change",
            "endpoint", "metric", "value", "floor"
        )?;
        for row in rows {
            write_row(f, row, width)?;
        }
        self.false_alarms().try_for_each(|row| {
            writeln!(
                f,
                "{} {} was wrongly reported as {}: {}",
                row.endpoint, row.metric, row.verdict, row.reason
            )
        })
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row, width: usize) -> fmt::Result {
    let metric = row.metric;
    write!(f, "{:<width$}  {metric:<11}  ", row.endpoint)?;
    let Some(numbers) = &row.numbers else {
        let reason = &row.reason;
        return writeln!(f, "{:>9}  {:>9}  not comparable: {reason}", "-", "-");
    };
    let value = metric.human(numbers.a);
    let floor = metric.human_size(numbers.floor);
    let smallest = metric.human_size(numbers.smallest_visible);
    writeln!(f, "{value:>9}  {floor:>9}  {smallest}")
}
