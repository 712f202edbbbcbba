//! A comparison as a table for people.

use std::fmt;

use base::run::comparison::{
    ComparisonSummary as ReportedComparison, Interval, SummaryRow as ReportedRow,
};

use super::comparison::{Comparison, Numbers, Row};
use super::metric::ComparedMetric;

impl Comparison {
    /// Returns the comparison for a report.
    pub fn report(&self) -> ReportedComparison {
        ReportedComparison {
            of: self.of.clone(),
            verdict: self.verdict(),
            obstacles: self.obstacles.clone(),
            rows: self.rows.iter().map(report_row).collect(),
        }
    }
}

fn report_row(row: &Row) -> ReportedRow {
    let [a, b, change] = numbers(row);
    ReportedRow {
        endpoint: row.endpoint.clone(),
        metric: row.metric.to_string(),
        a,
        b,
        change: change.trim_start().to_owned(),
        worse_by: row.numbers.as_ref().and_then(|it| worse_by(row.metric, it)),
        verdict: row.verdict,
        reason: row.reason.clone(),
    }
}

/// Returns how much worse B is, in floors. None if a value is not finite, which JSON cannot hold.
fn worse_by(metric: ComparedMetric, numbers: &Numbers) -> Option<Interval> {
    let [low, change, high] =
        [numbers.low, numbers.change, numbers.high].map(|it| it / numbers.floor);
    let interval = match metric.more_is_worse() {
        true => Interval { low, change, high },
        false => Interval {
            low: -high,
            change: -change,
            high: -low,
        },
    };
    let all = [interval.low, interval.change, interval.high];
    all.into_iter().all(f64::is_finite).then_some(interval)
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
        let mut rows = self.rows.iter();
        rows.try_for_each(|row| write_row(f, row, width))
    }
}

/// Returns the width of the column with the endpoints' names.
pub(super) fn name_width(rows: &[Row]) -> usize {
    let names = rows.iter().map(|row| row.endpoint.chars().count());
    names.max().unwrap_or(0).max("endpoint".len())
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row, width: usize) -> fmt::Result {
    let [a, b, change] = numbers(row);
    writeln!(
        f,
        "{:<width$}  {:<11}  {a:>9}  {b:>9}  {change:<34}  {:<14}  {}",
        row.endpoint, row.metric, row.verdict, row.reason
    )
}

/// Returns A, B, and the change; dashes if they are unknown.
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

fn change(metric: ComparedMetric, numbers: &Numbers) -> String {
    let [change, low, high] =
        [numbers.change, numbers.low, numbers.high].map(|change| metric.human_change(change));
    format!("{change:>9} ({low} to {high})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_throughput_is_worse_and_a_change_of_the_floor_is_1() {
        let numbers = Numbers {
            a: 100.0,
            b: 90.0,
            change: -0.1,
            low: -0.15,
            high: -0.05,
            confidence: 0.95,
            floor: 0.05,
            smallest_visible: 0.08,
        };
        let rounded = |metric| {
            let it = worse_by(metric, &numbers).unwrap();
            [it.low, it.change, it.high].map(|it| (it * 100.0).round() / 100.0)
        };
        assert_eq!(rounded(ComparedMetric::Throughput), [1.0, 2.0, 3.0]);
        assert_eq!(rounded(ComparedMetric::P95), [-3.0, -2.0, -1.0]);
        let floor = Numbers {
            floor: 0.0,
            ..numbers
        };
        assert_eq!(worse_by(ComparedMetric::P95, &floor), None);
    }
}
