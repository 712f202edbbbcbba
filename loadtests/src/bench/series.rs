//! What was measured round by round, and what is said of it.

use serde::Serialize;

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// 2^20 bytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Answers a second.
    #[serde(rename = "requests/s")]
    RequestsPerSecond,
    /// Requests.
    #[serde(rename = "requests")]
    Requests,
    /// Runs.
    #[serde(rename = "runs")]
    Runs,
    /// One rate as a share of another.
    #[serde(rename = "ratio")]
    Ratio,
}

impl Unit {
    /// A value as people read it.
    pub fn human(self, value: f64) -> String {
        match self {
            Unit::Milliseconds => harness::duration::human(value as u64),
            Unit::Mebibytes => format!("{value:.1} MiB"),
            Unit::RequestsPerSecond => format!("{value:.0}/s"),
            Unit::Requests | Unit::Runs => format!("{value:.0}"),
            Unit::Ratio => format!("{value:.3}"),
        }
    }
}

/// One quantity, measured several times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// What the values count.
    pub unit: Unit,
    /// One value a round, in the order of the rounds; empty where it cannot be measured.
    pub values: Vec<f64>,
    /// What is said of them; nothing of no values.
    #[serde(flatten)]
    pub summary: Option<Summary>,
}

/// What is said of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The lowest value.
    pub min: f64,
    /// The middle value; of an even number of values, the mean of the two in the middle.
    pub median: f64,
    /// The highest value.
    pub max: f64,
}

impl Series {
    /// A series of these values.
    pub fn new(name: impl Into<String>, unit: Unit, values: Vec<f64>) -> Self {
        Series {
            name: name.into(),
            unit,
            summary: Summary::of(&values),
            values,
        }
    }
}

impl Summary {
    fn of(values: &[f64]) -> Option<Summary> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Summary {
            min,
            median: below + (above - below) / 2.0,
            max,
        })
    }
}

/// Collects series whose names are only known as they come.
#[derive(Debug, Default)]
pub struct Collected(Vec<(String, Unit, Vec<f64>)>);

impl Collected {
    /// One more value of the series `name`.
    pub fn add(&mut self, name: &str, unit: Unit, value: f64) {
        match self.0.iter_mut().find(|(known, ..)| known == name) {
            Some((.., values)) => values.push(value),
            None => self.0.push((name.to_owned(), unit, vec![value])),
        }
    }

    /// The series, in the order in which each was first seen.
    pub fn into_series(self) -> Vec<Series> {
        let series = self.0.into_iter();
        series
            .map(|(name, unit, values)| Series::new(name, unit, values))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        let median = |values: &[f64]| Summary::of(values).map(|summary| summary.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 9.0, 1.0, 2.0]), Some(3.0));
    }

    #[test]
    fn series_keep_the_order_in_which_they_came() {
        let mut collected = Collected::default();
        for (name, value) in [("b", 1.0), ("a", 2.0), ("b", 3.0)] {
            collected.add(name, Unit::Milliseconds, value);
        }
        let series = collected.into_series();
        let seen: Vec<_> = series
            .iter()
            .map(|one| (one.name.as_str(), one.values.as_slice()))
            .collect();
        assert_eq!(seen, [("b", &[1.0, 3.0][..]), ("a", &[2.0][..])]);
    }

    #[test]
    fn values_are_read_with_their_units() {
        assert_eq!(Unit::Milliseconds.human(2_310.9), "2.31 s");
        assert_eq!(Unit::Mebibytes.human(41.26), "41.3 MiB");
        assert_eq!(Unit::RequestsPerSecond.human(103_008.09), "103008/s");
        assert_eq!(Unit::Requests.human(12_034.0), "12034");
        assert_eq!(Unit::Ratio.human(1.0 / 3.0), "0.333");
    }

    proptest! {
        #[test]
        fn as_many_values_are_below_the_median_as_above(
            values in prop::collection::vec(-1e9..1e9f64, 1..40)
        ) {
            let Summary { min, median, max } = Summary::of(&values).unwrap();
            prop_assert!(min <= median && median <= max);
            prop_assert!(values.iter().all(|value| (min..=max).contains(value)));
            let below = values.iter().filter(|value| **value < median).count();
            let above = values.iter().filter(|value| **value > median).count();
            prop_assert!(below * 2 <= values.len() && above * 2 <= values.len());
        }

        #[test]
        fn the_order_of_the_rounds_does_not_matter(
            (values, shuffled) in prop::collection::vec(0.0..1e6f64, 1..20)
                .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle()))
        ) {
            prop_assert_eq!(Summary::of(&values), Summary::of(&shuffled));
        }
    }
}
