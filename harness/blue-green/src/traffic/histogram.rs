//! Histograms of the durations of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The durations of requests. Of a duration only the bucket is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Each bucket's inclusive upper bound, ascending, and its own count.
    buckets: Vec<(Duration, u64)>,
    /// The count of requests over the greatest bound.
    over: u64,
}

/// A bucket that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The exclusive lower bound.
    pub lower: Duration,
    /// The inclusive upper bound; none: there is no bound.
    pub upper: Option<Duration>,
    /// Its count.
    pub count: u64,
    /// The count of this bucket and all lower ones.
    pub at_most: u64,
}

impl Histogram {
    /// Returns the histogram of cumulative counts by upper bound, as Prometheus has them;
    /// [`Duration::MAX`] is `+Inf`. A count below that of a lower bound (read while it was written)
    /// is raised to that.
    pub fn of_cumulative(counts: &BTreeMap<Duration, u64>) -> Histogram {
        let mut histogram = Histogram::default();
        let mut before = 0;
        for (bound, count) in counts {
            let within = count.saturating_sub(before);
            before = before.max(*count);
            match *bound {
                Duration::MAX => histogram.over = within,
                bound => histogram.buckets.push((bound, within)),
            }
        }
        histogram
    }

    /// Returns the number of requests.
    pub fn total(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.over
    }

    /// Returns the buckets that are not empty, from the lowest.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let bounded = self.buckets.iter();
        let bounded = bounded.map(|(bound, count)| (Some(*bound), *count));
        let (mut lower, mut at_most) = (Duration::ZERO, 0);
        bounded
            .chain([(None, self.over)])
            .filter_map(move |(upper, count)| {
                at_most += count;
                let bucket = Bucket {
                    lower,
                    upper,
                    count,
                    at_most,
                };
                lower = upper.unwrap_or(lower);
                (count > 0).then_some(bucket)
            })
    }

    /// Returns the sum of both. If one lacks a bound of the other, its requests count at its own
    /// next bound, as if they were slower.
    pub fn plus(&self, other: &Histogram) -> Histogram {
        let mut both: BTreeMap<Duration, u64> = BTreeMap::new();
        for (bound, count) in self.buckets.iter().chain(&other.buckets) {
            *both.entry(*bound).or_default() += count;
        }
        Histogram {
            buckets: both.into_iter().collect(),
            over: self.over + other.over,
        }
    }

    /// Returns the quantile `q` (0 to 1) by linear interpolation in its bucket, as Prometheus'
    /// `histogram_quantile`; the greatest bound if the quantile is over that. None without
    /// requests, or without a bound.
    /// <https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile>
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = q.clamp(0.0, 1.0) * self.total() as f64;
        let bucket = self.buckets().find(|it| it.at_most as f64 >= rank)?;
        let Some(upper) = bucket.upper else {
            return self.buckets.last().map(|(bound, _)| *bound);
        };
        let below = bucket.at_most - bucket.count;
        let part = (rank - below as f64) / bucket.count as f64;
        let width = upper.saturating_sub(bucket.lower);
        Some(bucket.lower + width.mul_f64(part.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn of(counts: &[(u32, u64)], all: u64) -> Histogram {
        let counts = counts.iter().map(|(ms, count)| (MS * *ms, *count));
        Histogram::of_cumulative(&counts.chain([(Duration::MAX, all)]).collect())
    }

    #[test]
    fn quantiles_are_prometheus() {
        let histogram = of(&[(1, 10), (2, 10), (4, 90)], 100);
        assert_eq!(histogram.total(), 100);
        assert_eq!(histogram.quantile(0.05), Some(MS / 2));
        assert_eq!(histogram.quantile(0.10), Some(MS));
        assert_eq!(histogram.quantile(0.50), Some(MS * 3));
        assert_eq!(histogram.quantile(0.90), Some(MS * 4));
        assert_eq!(histogram.quantile(0.95), Some(MS * 4), "at least");
        assert_eq!(of(&[(1, 0)], 0).quantile(0.5), None);
        assert_eq!(of(&[], 9).quantile(0.5), None);
    }

    #[test]
    fn histograms_with_different_bounds_add_up_and_no_request_gets_faster() {
        let both = of(&[(1, 5), (4, 10)], 10).plus(&of(&[(2, 8)], 9));
        assert_eq!(both, of(&[(1, 5), (2, 13), (4, 18)], 19));
    }

    #[test]
    fn a_histogram_that_was_read_while_it_was_written_is_valid() {
        assert_eq!(of(&[(1, 5), (2, 4)], 6), of(&[(1, 5), (2, 5)], 6));
    }

    #[test]
    fn json_preserves_a_histogram() {
        let histogram = of(&[(1, 5)], 6);
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_its_bucket_and_grows_with_q(
            counts in proptest::collection::btree_map(1..1000u32, 0..1000u64, 1..8),
            over in 0..10u64, q in 0.0..=1.0, less in 0.0..=1.0,
        ) {
            let mut sum = 0;
            let counts: Vec<_> = counts.into_iter().map(|(at, count)| { sum += count; (at, sum) }).collect();
            let histogram = of(&counts, sum + over);
            prop_assert_eq!(histogram.total(), sum + over);
            let value = histogram.quantile(q);
            prop_assert_eq!(value.is_some(), sum + over > 0);
            prop_assert!(histogram.quantile(q * less) <= value);
            prop_assert!(value.is_none_or(|it| it <= MS * counts.last().unwrap().0));
        }
    }
}
