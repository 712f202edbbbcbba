//! How far another machine's clock is from this one's, as far as messages tell.
//!
//! A message that says when it was sent, by the other clock, was sent after something that was
//! done here, and heard here later: the difference lies between. Each message narrows that, as
//! in D. L. Mills, "Internet time synchronization: the network time protocol", IEEE Transactions
//! on Communications 39 (1991).

use std::fmt;

/// Between what the other clock is ahead of this one, in microseconds; behind is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockDifference {
    /// It is ahead of this one by so much at least.
    pub least: i64,
    /// And by so much at most.
    pub most: i64,
}

impl ClockDifference {
    /// A message says that it was `sent`, by the other clock, and was so between these two
    /// moments by this one. All in microseconds since the Unix epoch.
    pub fn of(sent: u64, not_before: u64, heard: u64) -> ClockDifference {
        ClockDifference {
            least: ahead(sent, heard),
            most: ahead(sent, not_before),
        }
    }

    /// What both tell.
    #[must_use]
    pub fn and(self, other: ClockDifference) -> ClockDifference {
        ClockDifference {
            least: self.least.max(other.least),
            most: self.most.min(other.most),
        }
    }

    /// Whether the two clocks may be the same.
    pub fn may_be_none(self) -> bool {
        self.least <= 0 && self.most >= 0
    }
}

fn ahead(one: u64, other: u64) -> i64 {
    let ahead = i128::from(one) - i128::from(other);
    i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for ClockDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, most] = [self.least, self.most].map(|it| it as f64 / 1000.0);
        write!(
            f,
            "its clock is {least:.0} to {most:.0} ms ahead of this machine's"
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the difference is, and however long messages travel, it lies between.
        #[test]
        fn the_difference_lies_between(
            ahead in -10_000_000..10_000_000i64,
            messages in proptest::collection::vec((0..5_000_000u64, 0..5_000_000u64), 1..5),
        ) {
            let begun = 1_764_113_612_000_000u64;
            let told = messages.into_iter().map(|(after, travels)| {
                let sent = begun + after;
                ClockDifference::of(sent.strict_add_signed(ahead), begun, sent + travels)
            });
            let all = told.reduce(ClockDifference::and).unwrap();
            prop_assert!(all.least <= ahead && ahead <= all.most, "{all:?}");
            if ahead == 0 {
                prop_assert!(all.may_be_none());
            }
        }
    }

    #[test]
    fn a_clock_that_is_off_is_told_from_one_that_is_not() {
        let off = ClockDifference::of(2_500_000, 1_000_000, 1_900_000);
        assert_eq!(
            off.to_string(),
            "its clock is 600 to 1500 ms ahead of this machine's"
        );
        assert!(!off.may_be_none());
        assert!(ClockDifference::of(1_500_000, 1_000_000, 1_900_000).may_be_none());
    }
}
