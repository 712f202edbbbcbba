//! What can be seen at all: a version held against itself.

use std::fmt;

use harness::exit::ExitCode;
use serde::{Deserialize, Serialize};

use super::comparison::{Comparison, Row};
use super::table::name_width;
use super::{Settings, Verdict, compare_pairs};
use crate::result::LoadResult;

/// A version held against itself: how much noise there is, and so which change is the smallest
/// that would be called regressed or improved in 19 of 20 cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calibration {
    /// Its rows carry [`Numbers::smallest_visible`](super::Numbers::smallest_visible).
    pub comparison: Comparison,
}

/// Holds a version against itself, by pairs of its runs.
pub fn calibrate(pairs: &[(LoadResult, LoadResult)], settings: &Settings) -> Calibration {
    let mut comparison = compare_pairs(pairs, settings);
    let changed = pairs
        .iter()
        .find(|(a, b)| a.fingerprint.versions != b.fingerprint.versions);
    if let Some((a, b)) = changed {
        let (a, b) = (&a.run, &b.run);
        let why = format!("the runs {a} and {b} of a pair are of different versions");
        comparison.obstacles.push(why);
        comparison.rows.clear();
    }
    Calibration { comparison }
}

impl Calibration {
    /// What was called a change and is none: noise of a kind that the interval does not know.
    pub fn false_alarms(&self) -> impl Iterator<Item = &Row> {
        let called = |row: &&Row| matches!(row.verdict, Verdict::Regressed | Verdict::Improved);
        self.comparison.rows.iter().filter(called)
    }

    /// 0 where each row tells what can be seen, else 5.
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
        let Comparison {
            of,
            obstacles,
            rows,
        } = &self.comparison;
        writeln!(
            f,
            "{of} of one version: the smallest change that is called in 19 of 20 cases"
        )?;
        for obstacle in obstacles {
            writeln!(f, "not comparable: {obstacle}")?;
        }
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
        for Row {
            endpoint,
            metric,
            verdict,
            reason,
            ..
        } in self.false_alarms()
        {
            writeln!(
                f,
                "{endpoint} {metric} came out as {verdict}, which it is not: {reason}"
            )?;
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row, width: usize) -> fmt::Result {
    let Row {
        endpoint,
        metric,
        reason,
        ..
    } = row;
    write!(f, "{endpoint:<width$}  {metric:<11}  ")?;
    let Some(numbers) = &row.numbers else {
        return writeln!(f, "{:>9}  {:>9}  not comparable: {reason}", "-", "-");
    };
    let value = metric.human(numbers.a);
    let [floor, smallest] =
        [numbers.floor, numbers.smallest_visible].map(|change| metric.human_size(change));
    writeln!(f, "{value:>9}  {floor:>9}  {smallest}")
}
