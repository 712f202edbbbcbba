//! The stated figures, and whether what was measured holds them.

use std::fmt;

use serde::Serialize;

use super::series::{Series, Summary, Unit};

/// What of a series is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// The middle round: what is usual.
    Median,
    /// The worst round: what is stated as never exceeded.
    Max,
}

/// Where a value has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Below this, itself excluded.
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
pub struct Threshold {
    /// The series' name.
    pub series: &'static str,
    /// What of it is judged.
    pub statistic: Statistic,
    /// Where it has to be, in the series' unit.
    pub bound: Bound,
}

/// How a stated figure fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Held,
    /// It does not.
    Failed,
    /// There is no value: that proves nothing.
    NotMeasured,
}

/// A stated figure and what was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The stated figure.
    #[serde(flatten)]
    pub threshold: Threshold,
    /// What its numbers count.
    pub unit: Unit,
    /// The judged value, where there is one.
    pub seen: Option<f64>,
    /// How the figure fared.
    pub outcome: Outcome,
}

impl Threshold {
    /// Of the middle round.
    pub const fn of_median(series: &'static str, bound: Bound) -> Threshold {
        Threshold {
            series,
            statistic: Statistic::Median,
            bound,
        }
    }

    /// Judges each of `stated` whose series is there.
    pub fn judge_all(stated: &[Threshold], series: &[Series]) -> Vec<Verdict> {
        let judged = stated.iter().filter_map(|threshold| {
            let judged = series.iter().find(|one| one.name == threshold.series)?;
            Some(threshold.judge(judged))
        });
        judged.collect()
    }

    /// Judges `series`, which is the one this threshold names.
    pub fn judge(self, series: &Series) -> Verdict {
        let seen = series
            .summary
            .map(|Summary { median, max, .. }| match self.statistic {
                Statistic::Median => median,
                Statistic::Max => max,
            });
        Verdict {
            threshold: self,
            unit: series.unit,
            seen,
            outcome: match seen {
                Some(value) if self.bound.holds(value) => Outcome::Held,
                Some(_) => Outcome::Failed,
                None => Outcome::NotMeasured,
            },
        }
    }
}

/// In one line: `holds         up: the whole command  median 2.31 s (stated: below 5.00 s)`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Threshold {
            series,
            statistic,
            bound,
        } = self.threshold;
        let outcome = match self.outcome {
            Outcome::Held => "holds",
            Outcome::Failed => "FAILS",
            Outcome::NotMeasured => "not measured",
        };
        let statistic = match statistic {
            Statistic::Median => "median",
            Statistic::Max => "highest",
        };
        let seen = match self.seen {
            Some(value) => format!("  {statistic} {}", self.unit.human(value)),
            None => String::new(),
        };
        let stated = match bound {
            Bound::Below(limit) => format!("below {}", self.unit.human(limit)),
            Bound::AtMost(limit) => format!("at most {}", self.unit.human(limit)),
            Bound::AtLeast(limit) => format!("at least {}", self.unit.human(limit)),
        };
        write!(f, "{outcome:<12}  {series}{seen} (stated: {stated})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outcome(statistic: Statistic, bound: Bound, values: &[f64]) -> Outcome {
        let threshold = Threshold {
            series: "s",
            statistic,
            bound,
        };
        let series = Series::new("s", Unit::Ratio, values.to_vec());
        threshold.judge(&series).outcome
    }

    #[test]
    fn a_limit_itself_is_not_below_it_but_at_least_it() {
        use Statistic::Median;
        assert_eq!(outcome(Median, Bound::Below(5.0), &[5.0]), Outcome::Failed);
        assert_eq!(outcome(Median, Bound::Below(5.0), &[4.9]), Outcome::Held);
        assert_eq!(outcome(Median, Bound::AtLeast(5.0), &[5.0]), Outcome::Held);
        let close = Bound::AtLeast(5.0);
        assert_eq!(outcome(Median, close, &[4.9]), Outcome::Failed);
        assert_eq!(outcome(Median, Bound::AtMost(5.0), &[5.0]), Outcome::Held);
        let over = Bound::AtMost(5.0);
        assert_eq!(outcome(Median, over, &[5.1]), Outcome::Failed);
    }

    #[test]
    fn one_bad_round_fails_the_highest_but_not_the_median() {
        let rounds = [1.0, 1.0, 9.0];
        let bound = Bound::Below(5.0);
        assert_eq!(outcome(Statistic::Median, bound, &rounds), Outcome::Held);
        assert_eq!(outcome(Statistic::Max, bound, &rounds), Outcome::Failed);
    }

    #[test]
    fn nothing_measured_is_never_a_pass() {
        let bound = Bound::Below(5.0);
        assert_eq!(outcome(Statistic::Max, bound, &[]), Outcome::NotMeasured);
    }

    #[test]
    fn what_is_no_number_fails() {
        for bound in [Bound::Below(5.0), Bound::AtLeast(5.0)] {
            let values = [f64::NAN];
            assert_eq!(outcome(Statistic::Median, bound, &values), Outcome::Failed);
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
