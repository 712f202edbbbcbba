//! How long requests took, as buckets tell it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many requests took how long. Of a duration only the bucket is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Each bucket's upper bound, which is in it, ascending; and how many are in it and in
    /// no lower one.
    buckets: Vec<(Duration, u64)>,
    /// How many took longer than the greatest bound.
    over: u64,
}

/// A bucket with something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// What is in it took longer than this.
    pub lower: Duration,
    /// What is in it took at most this; none: there is no bound.
    pub upper: Option<Duration>,
    /// How many are in it.
    pub count: u64,
    /// How many are in it and in all lower ones.
    pub at_most: u64,
}

impl Histogram {
    /// Of counts as Prometheus has them: by upper bound, each with all lower ones in it;
    /// [`Duration::MAX`] is `+Inf`. A count that is lower than that of a lower bound (read
    /// while it was written) is taken to be the same.
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

    /// How many requests there were.
    pub fn total(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.over
    }

    /// The buckets with something in them, from the lowest.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let bounds = self.buckets.iter().map(|(bound, _)| *bound);
        let lowers = std::iter::once(Duration::ZERO).chain(bounds.clone());
        let uppers = bounds.map(Some).chain([None]);
        let counts = self
            .buckets
            .iter()
            .map(|(_, count)| *count)
            .chain([self.over]);
        let mut at_most = 0;
        let all = lowers.zip(uppers).zip(counts);
        all.filter_map(move |((lower, upper), count)| {
            at_most += count;
            (count > 0).then_some(Bucket {
                lower,
                upper,
                count,
                at_most,
            })
        })
    }

    /// Both together. Where one lacks a bound of the other, what it has there is taken to
    /// have been slower: it goes to the next bound of its own.
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

    /// The time that a share `q` (0 to 1) of the requests took at most, by linear
    /// interpolation in its bucket, as Prometheus' `histogram_quantile`. Where it is over
    /// the greatest bound that bound is all that is known: it is at least that. None where
    /// there were no requests, or there is no bound.
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
    fn those_of_other_bounds_add_up_and_never_get_faster() {
        let both = of(&[(1, 5), (4, 10)], 10).plus(&of(&[(2, 8)], 9));
        assert_eq!(both, of(&[(1, 5), (2, 13), (4, 18)], 19));
    }

    #[test]
    fn one_that_was_read_while_it_was_written_is_no_nonsense() {
        assert_eq!(of(&[(1, 5), (2, 4)], 6), of(&[(1, 5), (2, 5)], 6));
    }

    #[test]
    fn it_is_kept_as_json() {
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
