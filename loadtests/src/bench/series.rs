//! The values of all rounds, and their summary.

use std::time::Instant;

use serde::Serialize;

/// The unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// 2^20 bytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Answers per second.
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
    /// A value for people.
    pub fn human(self, value: f64) -> String {
        match self {
            Unit::Milliseconds => base::duration::human(value as u64),
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
    /// The unit of the values.
    pub unit: Unit,
    /// One value for each round, in order; empty if it cannot be measured.
    pub values: Vec<f64>,
    /// Their summary; none without values.
    #[serde(flatten)]
    pub summary: Option<SeriesSummary>,
}

/// The summary of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SeriesSummary {
    /// The lowest value.
    pub min: f64,
    /// The median; with an even number of values, the mean of the two in the middle.
    pub median: f64,
    /// The highest value.
    pub max: f64,
}

impl Series {
    /// Creates a series with its summary.
    pub fn new(name: impl Into<String>, unit: Unit, values: Vec<f64>) -> Self {
        Series {
            name: name.into(),
            unit,
            summary: SeriesSummary::of(&values),
            values,
        }
    }
}

impl SeriesSummary {
    fn of(values: &[f64]) -> Option<SeriesSummary> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(SeriesSummary {
            min,
            median: below + (above - below) / 2.0,
            max,
        })
    }
}

/// Collects series whose names are not known in advance.
#[derive(Debug, Default)]
pub struct SeriesCollector(Vec<(String, Unit, Vec<f64>)>);

impl SeriesCollector {
    /// Adds a value to the series `name`.
    pub fn add(&mut self, name: &str, unit: Unit, value: f64) {
        match self.0.iter_mut().find(|(known, ..)| known == name) {
            Some((.., values)) => values.push(value),
            None => self.0.push((name.to_owned(), unit, vec![value])),
        }
    }

    /// Returns the series, in the order of their first values.
    pub fn into_series(self) -> Vec<Series> {
        let series = self.0.into_iter();
        series
            .map(|(name, unit, values)| Series::new(name, unit, values))
            .collect()
    }
}

/// Returns the time since `started`, in milliseconds.
pub fn millis_since(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_the_two_middle_values() {
        let median = |values: &[f64]| SeriesSummary::of(values).map(|summary| summary.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 9.0, 1.0, 2.0]), Some(3.0));
    }

    #[test]
    fn series_keep_the_order_of_their_first_values() {
        let mut collector = SeriesCollector::default();
        for (name, value) in [("b", 1.0), ("a", 2.0), ("b", 3.0)] {
            collector.add(name, Unit::Milliseconds, value);
        }
        let series = collector.into_series();
        let values = series.iter().map(|one| (&*one.name, &*one.values));
        let values: Vec<_> = values.collect();
        assert_eq!(values, [("b", &[1.0, 3.0][..]), ("a", &[2.0][..])]);
    }

    #[test]
    fn values_are_shown_with_their_units() {
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
            let SeriesSummary { min, median, max } = SeriesSummary::of(&values).unwrap();
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
            prop_assert_eq!(SeriesSummary::of(&values), SeriesSummary::of(&shuffled));
        }
    }
}
