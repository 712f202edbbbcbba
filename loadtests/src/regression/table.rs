//! A comparison as people read it.

use std::fmt;

use harness::run::comparison::{Comparison as Told, Row as ToldRow};

use super::comparison::{Comparison, Numbers, Row};
use super::metric::Metric;

impl Comparison {
    /// As a report tells it.
    pub fn told(&self) -> Told {
        Told {
            of: self.of.clone(),
            verdict: self.verdict(),
            obstacles: self.obstacles.clone(),
            rows: self.rows.iter().map(told_row).collect(),
        }
    }
}

fn told_row(row: &Row) -> ToldRow {
    let [a, b, change] = numbers(row);
    ToldRow {
        endpoint: row.endpoint.clone(),
        metric: row.metric.to_string(),
        a,
        b,
        change: change.trim_start().to_owned(),
        verdict: row.verdict,
        reason: row.reason.clone(),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.of, self.verdict())?;
        for obstacle in &self.obstacles {
            writeln!(f, "not comparable: {obstacle}")?;
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        let width = name_width(&self.rows);
        writeln!(
            f,
            "\n{:<width$}  {:<11}  {:>9}  {:>9}  {:<34}  {:<14}  reason",
            "endpoint", "metric", "A", "B", "change and its interval", "verdict"
        )?;
        self.rows
            .iter()
            .try_for_each(|row| write_row(f, row, width))
    }
}

/// Of the column of the endpoints' names.
pub(super) fn name_width(rows: &[Row]) -> usize {
    let names = rows.iter().map(|row| row.endpoint.chars().count());
    names.max().unwrap_or(0).max("endpoint".len())
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row, width: usize) -> fmt::Result {
    let Row {
        endpoint,
        metric,
        verdict,
        reason,
        ..
    } = row;
    let [a, b, change] = numbers(row);
    writeln!(
        f,
        "{endpoint:<width$}  {metric:<11}  {a:>9}  {b:>9}  {change:<34}  {verdict:<14}  {reason}"
    )
}

/// A, B, and the change; dashes where they are not known.
fn numbers(row: &Row) -> [String; 3] {
    match &row.numbers {
        Some(numbers) => [
            row.metric.human(numbers.a),
            row.metric.human(numbers.b),
            change(row.metric, numbers),
        ],
        None => ["-", "-", "-"].map(str::to_owned),
    }
}

fn change(metric: Metric, numbers: &Numbers) -> String {
    let [change, low, high] =
        [numbers.change, numbers.low, numbers.high].map(|it| metric.human_change(it));
    format!("{change:>9} ({low} to {high})")
}
