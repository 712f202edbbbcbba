//! The stated figures, and whether measurements meet them.

use std::fmt;

use serde::Serialize;

use super::series::{Series, Unit};

/// Which value of a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoundStatistic {
    /// The median round, for usual values.
    Median,
    /// The worst round, for limits that no round may exceed.
    Max,
}

/// The limit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Below this.
    Below(f64),
    /// At this or below.
    AtMost(f64),
    /// At this or above.
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::Below(limit) => value < limit,
            Bound::AtMost(limit) => value <= limit,
            Bound::AtLeast(limit) => value >= limit,
        }
    }
}

/// A stated figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StatedFigure {
    /// The series' name.
    pub series: &'static str,
    /// Which value counts.
    pub statistic: RoundStatistic,
    /// Its limit, in the series' unit.
    pub bound: Bound,
}

/// Whether a stated figure holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FigureOutcome {
    /// It holds.
    Held,
    /// It does not hold.
    Failed,
    /// There is no value, which proves nothing.
    NotMeasured,
}

/// A stated figure and the measured value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FigureVerdict {
    /// The stated figure.
    #[serde(flatten)]
    pub threshold: StatedFigure,
    /// The unit of its values.
    pub unit: Unit,
    /// The measured value, if there is one.
    pub seen: Option<f64>,
    /// Whether the figure holds.
    pub outcome: FigureOutcome,
}

impl StatedFigure {
    /// A figure for the median round.
    pub const fn of_median(series: &'static str, bound: Bound) -> StatedFigure {
        StatedFigure {
            series,
            statistic: RoundStatistic::Median,
            bound,
        }
    }

    /// A figure for every round.
    pub const fn of_max(series: &'static str, bound: Bound) -> StatedFigure {
        StatedFigure {
            series,
            statistic: RoundStatistic::Max,
            bound,
        }
    }

    /// Evaluates each of `stated` that has a series.
    pub fn evaluate_all(stated: &[StatedFigure], series: &[Series]) -> Vec<FigureVerdict> {
        let verdicts = stated.iter().filter_map(|threshold| {
            let series = series.iter().find(|one| one.name == threshold.series)?;
            Some(threshold.evaluate(series))
        });
        verdicts.collect()
    }

    /// Evaluates the series that this figure names.
    pub fn evaluate(self, series: &Series) -> FigureVerdict {
        let seen = series.summary.map(|summary| match self.statistic {
            RoundStatistic::Median => summary.median,
            RoundStatistic::Max => summary.max,
        });
        FigureVerdict {
            threshold: self,
            unit: series.unit,
            seen,
            outcome: match seen {
                Some(value) if self.bound.holds(value) => FigureOutcome::Held,
                Some(_) => FigureOutcome::Failed,
                None => FigureOutcome::NotMeasured,
            },
        }
    }
}

/// On one line: `holds         up: the whole command  median 2.31 s (stated: below 5.00 s)`.
impl fmt::Display for FigureVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StatedFigure {
            series,
            statistic,
            bound,
        } = self.threshold;
        let outcome = match self.outcome {
            FigureOutcome::Held => "holds",
            FigureOutcome::Failed => "FAILS",
            FigureOutcome::NotMeasured => "not measured",
        };
        let statistic = match statistic {
            RoundStatistic::Median => "median",
            RoundStatistic::Max => "highest",
        };
        let seen = match self.seen {
            Some(value) => format!("  {statistic} {}", self.unit.human(value)),
            None => String::new(),
        };
        let (bound, limit) = match bound {
            Bound::Below(limit) => ("below", limit),
            Bound::AtMost(limit) => ("at most", limit),
            Bound::AtLeast(limit) => ("at least", limit),
        };
        let limit = self.unit.human(limit);
        write!(f, "{outcome:<12}  {series}{seen} (stated: {bound} {limit})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_figure_holds_by_its_bound_and_statistic() {
        use Bound::{AtLeast, AtMost, Below};
        use FigureOutcome::{Failed, Held, NotMeasured};
        let median = |bound| StatedFigure::of_median("s", bound);
        let max = |bound| StatedFigure::of_max("s", bound);
        let one_bad_round = &[1.0, 1.0, 9.0];
        let table: [(StatedFigure, &[f64], FigureOutcome); 11] = [
            (median(Below(5.0)), &[5.0], Failed),
            (median(Below(5.0)), &[4.9], Held),
            (median(AtLeast(5.0)), &[5.0], Held),
            (median(AtLeast(5.0)), &[4.9], Failed),
            (median(AtMost(5.0)), &[5.0], Held),
            (median(AtMost(5.0)), &[5.1], Failed),
            (median(Below(5.0)), one_bad_round, Held),
            (max(Below(5.0)), one_bad_round, Failed),
            (max(Below(5.0)), &[], NotMeasured),
            (median(Below(5.0)), &[f64::NAN], Failed),
            (median(AtLeast(5.0)), &[f64::NAN], Failed),
        ];
        for (figure, values, expected) in table {
            let series = Series::new("s", Unit::Ratio, values.to_vec());
            let outcome = figure.evaluate(&series).outcome;
            assert_eq!(outcome, expected, "{figure:?}: {values:?}");
        }
    }

    proptest! {
        #[test]
        fn the_two_bounds_divide_all_values_between_them(value: f64, limit in -1e6..1e6f64) {
            prop_assume!(!value.is_nan());
            prop_assert_ne!(Bound::Below(limit).holds(value), Bound::AtLeast(limit).holds(value));
        }
    }
}
