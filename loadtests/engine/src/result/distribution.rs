//! A distribution of times: an HDR histogram that merges exactly.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer, V2Serializer};
use hdrhistogram::{Counter, Histogram};
use prober::micros;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Times in microseconds, to three significant digits.
///
/// A run has thousands of distributions. Each is stored in HdrHistogram's V2 encoding, with a byte
/// or two for each bucket that is not empty. To record times, use an uncompressed histogram
/// ([`growing`]). In JSON it is the same encoding, deflated, in base64, which other HDR tools read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Distribution {
    /// Empty without any times.
    v2: Vec<u8>,
}

/// The text is not a histogram.
#[derive(Debug, Error)]
#[error("not an HDR histogram (V2, deflated, base64): {0}")]
pub struct NotADistribution(String);

/// Returns an empty histogram that records times in microseconds.
pub fn growing<C: Counter>() -> Histogram<C> {
    Histogram::new(3).expect("three digits are among those a histogram may have")
}

/// Records one time.
pub fn count<C: Counter>(histogram: &mut Histogram<C>, time: Duration) {
    let recorded = histogram.record(micros(time));
    recorded.expect("a histogram that grows holds any value");
}

impl Distribution {
    /// Adds another distribution's times, exactly.
    pub fn add(&mut self, other: &Distribution) {
        let mut sum = self.histogram();
        other.add_to(&mut sum);
        *self = sum.into();
    }

    /// Adds its times to a histogram.
    pub(crate) fn add_to(&self, sum: &mut Histogram<u64>) {
        if self.v2.is_empty() {
            return;
        }
        let encoded: Result<Histogram<u64>, _> = Deserializer::new().deserialize(&mut &self.v2[..]);
        let added = sum.add(encoded.expect("a histogram was encoded"));
        added.expect("a histogram that grows holds any value");
    }

    /// Returns the number of recorded times.
    pub fn count(&self) -> u64 {
        self.histogram().len()
    }

    /// Returns the time at quantile `q` (0 to 1), in microseconds; none if it is empty.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let histogram = self.histogram();
        (!histogram.is_empty()).then(|| histogram.value_at_quantile(q))
    }

    /// Returns the uncompressed histogram.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = growing();
        self.add_to(&mut histogram);
        histogram
    }
}

impl<C: Counter> From<Histogram<C>> for Distribution {
    fn from(histogram: Histogram<C>) -> Self {
        let mut v2 = Vec::new();
        if !histogram.is_empty() {
            let encoded = V2Serializer::new().serialize(&histogram, &mut v2);
            encoded.expect("recorded counts fit the encoding");
            v2.shrink_to_fit();
        }
        Distribution { v2 }
    }
}

/// From times in microseconds.
impl FromIterator<u64> for Distribution {
    fn from_iter<I: IntoIterator<Item = u64>>(times: I) -> Self {
        let mut histogram = growing::<u64>();
        for micros in times {
            count(&mut histogram, Duration::from_micros(micros));
        }
        histogram.into()
    }
}

/// Equal if the times are equal. The histogram's capacity does not matter.
impl PartialEq for Distribution {
    fn eq(&self, other: &Self) -> bool {
        self.v2 == other.v2 || self.histogram() == other.histogram()
    }
}

impl From<Distribution> for String {
    fn from(distribution: Distribution) -> String {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&distribution.histogram(), &mut bytes);
        written.expect("recorded counts fit the encoding");
        BASE64_STANDARD.encode(bytes)
    }
}

impl TryFrom<String> for Distribution {
    type Error = NotADistribution;

    fn try_from(text: String) -> Result<Self, NotADistribution> {
        let bytes = BASE64_STANDARD.decode(text);
        let bytes = bytes.map_err(|error| NotADistribution(error.to_string()))?;
        let read: Result<Histogram<u64>, _> = Deserializer::new().deserialize(&mut &bytes[..]);
        let read = read.map_err(|error| NotADistribution(format!("{error:?}")))?;
        // It may have another precision.
        let mut histogram = growing::<u64>();
        let added = histogram.add(read);
        added.map_err(|error| NotADistribution(format!("{error:?}")))?;
        Ok(Distribution::from(histogram))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Distribution {
        values.iter().copied().collect()
    }

    #[test]
    fn invalid_text_is_refused() {
        for text in ["", "!", "AAAA", "HISTFAAAA"] {
            assert!(Distribution::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_distribution_has_no_quantile() {
        assert_eq!(Distribution::default().quantile(0.5), None);
        assert_eq!(
            Distribution::from(growing::<u32>()),
            Distribution::default()
        );
    }

    /// An hour has 120 blocks, which must not take megabytes for each endpoint.
    #[test]
    fn a_block_of_a_busy_endpoint_takes_a_few_kilobytes() {
        let busy: Distribution = (0..50_000u64).map(|n| 40 + n * n / 100_000).collect();
        assert!(busy.v2.capacity() < 10_000, "{}", busy.v2.capacity());
    }

    proptest! {
        #[test]
        fn its_buckets_are_those_of_a_histogram(
            values in prop::collection::vec(prop_oneof![0u64..5000, any::<u64>()], 1..50)
        ) {
            // Larger values do not fit any histogram.
            let halves: Vec<u64> = values.iter().map(|value| value >> 1).collect();
            let mut histogram = growing::<u64>();
            for value in &halves {
                histogram.record(*value).unwrap();
            }
            let distribution = of(&halves);
            prop_assert_eq!(distribution.histogram(), histogram.clone());
            prop_assert_eq!(&Distribution::from(histogram.clone()), &distribution);
            prop_assert_eq!(distribution.count(), halves.len() as u64);
            for q in [0.0, 0.5, 0.99, 1.0] {
                prop_assert_eq!(distribution.quantile(q).unwrap(), histogram.value_at_quantile(q));
            }
        }

        #[test]
        fn a_written_distribution_is_read_and_grows(
            values in prop::collection::vec(0u64..10_000_000, 0..50), more in 0u64..1 << 40
        ) {
            let written = String::from(of(&values));
            let mut read = Distribution::try_from(written.clone()).unwrap();
            prop_assert_eq!(&read, &of(&values));
            prop_assert_eq!(String::from(read.clone()), written);
            read.add(&of(&[more]));
            prop_assert_eq!(read.count(), values.len() as u64 + 1);
        }

        #[test]
        fn merged_parts_equal_the_undivided_distribution(
            values in prop::collection::vec(0u64..10_000_000, 1..50), at in 0usize..50
        ) {
            let (left, right) = values.split_at(at.min(values.len()));
            let mut merged = of(left);
            merged.add(&of(right));
            prop_assert_eq!(merged, of(&values));
        }
    }
}
