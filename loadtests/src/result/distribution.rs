//! Times, as an HDR histogram that merges exactly.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Times in microseconds, to three significant digits. Written as HdrHistogram's own V2
/// encoding, deflated, in base64: other HDR tools read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Distribution(Histogram<u64>);

/// What is written is no histogram.
#[derive(Debug, Error)]
#[error("not an HDR histogram (V2, deflated, base64): {0}")]
pub struct NotADistribution(String);

impl Default for Distribution {
    fn default() -> Self {
        let grows = Histogram::new(3);
        Distribution(grows.expect("three digits are among those a histogram may have"))
    }
}

impl Distribution {
    /// Counts one more time.
    pub fn record(&mut self, micros: u64) {
        // Not by `saturating_record`, which would not let it grow.
        let recorded = self.0.record(micros);
        recorded.expect("a histogram that grows holds any value");
    }

    /// Adds another one's times: the same as if they had been counted here.
    pub fn add(&mut self, other: &Distribution) {
        let added = self.0.add(&other.0);
        added.expect("a histogram that grows holds any value");
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that a share `q` (0 to 1) took at most, in microseconds; none of nothing.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(q))
    }

    /// The histogram itself.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl From<Histogram<u64>> for Distribution {
    fn from(histogram: Histogram<u64>) -> Self {
        Distribution(histogram)
    }
}

impl From<Distribution> for String {
    fn from(distribution: Distribution) -> String {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&distribution.0, &mut bytes);
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
        let mut histogram = read.map_err(|error| NotADistribution(format!("{error:?}")))?;
        histogram.auto(true);
        Ok(Distribution(histogram))
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
