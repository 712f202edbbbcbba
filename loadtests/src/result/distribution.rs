//! Times, as an HDR histogram that merges exactly.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Times in microseconds, to three significant digits. Written as HdrHistogram's own V2
/// encoding, deflated, in base64: other HDR tools read it.
///
/// Of an HDR histogram's buckets it holds those that are not empty. A run has thousands of
/// distributions, and each touches some hundred buckets of ten thousand: an hour's fit into a
/// few MiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Distribution {
    /// The lowest time of each bucket, in order, and how many are in it.
    buckets: Vec<(u64, u64)>,
}

/// Three significant digits: a histogram tells 2,048 times apart, and so the 1,024 in each
/// doubling from there.
const TOLD_APART: u64 = 2048;

/// What is written is no histogram.
#[derive(Debug, Error)]
#[error("not an HDR histogram (V2, deflated, base64): {0}")]
pub struct NotADistribution(String);

impl Distribution {
    /// Counts one more time.
    pub fn record(&mut self, micros: u64) {
        self.count_in(lowest_of_bucket(micros), 1);
    }

    /// Adds another one's times: the same as if they had been counted here.
    pub fn add(&mut self, other: &Distribution) {
        for (lowest, count) in &other.buckets {
            self.count_in(*lowest, *count);
        }
    }

    fn count_in(&mut self, lowest: u64, count: u64) {
        match self
            .buckets
            .binary_search_by_key(&lowest, |(lowest, _)| *lowest)
        {
            Ok(at) => self.buckets[at].1 += count,
            Err(at) => self.buckets.insert(at, (lowest, count)),
        }
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The time that a share `q` (0 to 1) took at most, in microseconds; none of nothing.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let any = !self.buckets.is_empty();
        any.then(|| self.histogram().value_at_quantile(q))
    }

    /// The histogram itself, all its buckets.
    pub fn histogram(&self) -> Histogram<u64> {
        let grows = Histogram::new(3);
        let mut histogram = grows.expect("three digits are among those a histogram may have");
        for (lowest, count) in &self.buckets {
            let recorded = histogram.record_n(*lowest, *count);
            recorded.expect("a histogram that grows holds any value");
        }
        histogram
    }
}

/// The lowest of the times that a histogram does not tell from this one.
fn lowest_of_bucket(micros: u64) -> u64 {
    let beyond = (micros | (TOLD_APART - 1)).ilog2() - (TOLD_APART - 1).ilog2();
    micros >> beyond << beyond
}

impl<C: Counter> From<Histogram<C>> for Distribution {
    fn from(histogram: Histogram<C>) -> Self {
        let buckets = histogram.iter_recorded().map(|bucket| {
            let lowest = lowest_of_bucket(bucket.value_iterated_to());
            (lowest, bucket.count_at_value().as_u64())
        });
        Distribution {
            buckets: buckets.collect(),
        }
    }
}

impl From<Distribution> for String {
    fn from(distribution: Distribution) -> String {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&distribution.histogram(), &mut bytes);
        written.expect("counts that are there fit the encoding, and memory takes them");
        BASE64_STANDARD.encode(bytes)
    }
}

impl TryFrom<String> for Distribution {
    type Error = NotADistribution;

    fn try_from(text: String) -> Result<Self, NotADistribution> {
        let bytes = BASE64_STANDARD.decode(text);
        let bytes = bytes.map_err(|error| NotADistribution(error.to_string()))?;
        let read: Result<Histogram<u64>, _> = Deserializer::new().deserialize(&mut &bytes[..]);
        let histogram = read.map_err(|error| NotADistribution(format!("{error:?}")))?;
        Ok(Distribution::from(histogram))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Distribution {
        let mut distribution = Distribution::default();
        values.iter().for_each(|value| distribution.record(*value));
        distribution
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for text in ["", "!", "AAAA", "HISTFAAAA"] {
            assert!(Distribution::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn its_buckets_are_a_histograms(
            values in prop::collection::vec(prop_oneof![0u64..5000, any::<u64>()], 1..50)
        ) {
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            for value in &values {
                // Beyond what one of its size can ever hold.
                histogram.record(value >> 1).unwrap();
                prop_assert_eq!(
                    lowest_of_bucket(*value >> 1), histogram.lowest_equivalent(*value >> 1)
                );
            }
            let halves: Vec<u64> = values.iter().map(|value| value >> 1).collect();
            let distribution = of(&halves);
            prop_assert_eq!(distribution.histogram(), histogram.clone());
            prop_assert_eq!(&Distribution::from(histogram.clone()), &distribution);
            for q in [0.0, 0.5, 0.99, 1.0] {
                prop_assert_eq!(distribution.quantile(q).unwrap(), histogram.value_at_quantile(q));
            }
        }

        #[test]
        fn what_was_written_is_read_and_still_grows(
            values in prop::collection::vec(0u64..10_000_000, 0..50), more in 0u64..1 << 40
        ) {
            let written = String::from(of(&values));
            let mut read = Distribution::try_from(written).unwrap();
            prop_assert_eq!(&read, &of(&values));
            read.record(more);
            prop_assert_eq!(read.count(), values.len() as u64 + 1);
        }

        #[test]
        fn parts_merge_to_the_whole(
            values in prop::collection::vec(0u64..10_000_000, 1..50), at in 0usize..50
        ) {
            let (left, right) = values.split_at(at.min(values.len()));
            let mut merged = of(left);
            merged.add(&of(right));
            prop_assert_eq!(merged, of(&values));
        }
    }
}
