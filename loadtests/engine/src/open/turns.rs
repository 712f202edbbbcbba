//! Which journey each arrival is.

/// The journeys of arrivals, in a fixed order that repeats itself: their mix is exact, and the same
/// in every run of a plan.
///
/// The order is that of nginx's smooth weighted round-robin: the repetitions of a journey are spread
/// evenly (<https://github.com/nginx/nginx/commit/52327e0627f49dbda1e8db695e63a4b0af4448b1>).
pub struct Turns {
    /// The order, once.
    cycle: Vec<Turn>,
    /// By journey.
    weights: Vec<u64>,
}

/// The journey of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The index of the journey.
    pub journey: usize,
    /// How many arrivals before this one are the same journey.
    pub repetition: u64,
}

impl Turns {
    /// Orders journeys by their weights. None if no weight is above 0.
    pub fn by(weights: &[u32]) -> Option<Turns> {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
        if divisor == 0 {
            return None;
        }
        let reduced = weights.iter().map(|weight| u64::from(weight / divisor));
        let weights: Vec<u64> = reduced.collect();
        let mut due = vec![0_i64; weights.len()];
        let mut repetitions = vec![0; weights.len()];
        let length = weights.iter().sum::<u64>();
        let cycle = (0..length).map(|_| {
            for (due, weight) in due.iter_mut().zip(&weights) {
                *due += *weight as i64;
            }
            let most = (0..due.len()).rev().max_by_key(|journey| due[*journey]);
            let journey = most.unwrap_or_default();
            due[journey] -= length as i64;
            let repetition = repetitions[journey];
            repetitions[journey] += 1;
            Turn {
                journey,
                repetition,
            }
        });
        let cycle = cycle.collect();
        Some(Turns { cycle, weights })
    }

    /// Returns the turn of arrival `number`, from 0.
    pub fn of(&self, number: u64) -> Turn {
        let length = self.cycle.len() as u64;
        let Turn {
            journey,
            repetition,
        } = self.cycle[(number % length) as usize];
        Turn {
            journey,
            repetition: number / length * self.weights[journey] + repetition,
        }
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        b => greatest_common_divisor(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn journeys(weights: &[u32], arrivals: u64) -> Vec<usize> {
        let turns = Turns::by(weights).unwrap();
        (0..arrivals)
            .map(|number| turns.of(number).journey)
            .collect()
    }

    #[test]
    fn repetitions_of_a_journey_are_spread_evenly() {
        assert_eq!(journeys(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(journeys(&[20, 0, 10], 6), [0, 2, 0, 0, 2, 0]);
        assert_eq!(journeys(&[7], 3), [0, 0, 0]);
    }

    #[test]
    fn without_any_weight_there_is_no_order() {
        assert!(Turns::by(&[]).is_none());
        assert!(Turns::by(&[0, 0]).is_none());
    }

    proptest! {
        #[test]
        fn the_mix_is_exact_and_every_repetition_is_numbered(
            weights in prop::collection::vec(0u32..20, 1..6)
                .prop_filter("no weight", |weights| weights.iter().any(|weight| *weight > 0)),
            cycles in 1u64..4,
        ) {
            let turns = Turns::by(&weights).unwrap();
            let sum: u64 = weights.iter().copied().map(u64::from).sum();
            let mut repetitions = vec![0; weights.len()];
            for number in 0..cycles * sum {
                let Turn { journey, repetition } = turns.of(number);
                prop_assert_eq!(repetition, repetitions[journey]);
                repetitions[journey] += 1;
            }
            let exact: Vec<u64> = weights.iter().map(|weight| cycles * u64::from(*weight)).collect();
            prop_assert_eq!(repetitions, exact);
        }
    }
}
