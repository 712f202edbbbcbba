//! What several generators are to do together.

use std::time::Duration;

use load_engine::open::{Part, Plan, Stage};
use prober::Target;
use serde::{Deserialize, Serialize};

use crate::quotes;

/// A load of quotes. Holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Where the platform's quotes are.
    pub target: Target,
    /// How much when, of all generators together.
    pub stages: Vec<Stage>,
    /// From when a request was due to the last byte of its answer.
    pub timeout: Duration,
    /// What an interrupted run gives those in flight, at most.
    pub drain: Duration,
    /// An arrival that is due while its generator has its share of so many in flight is
    /// dropped, and counted.
    pub max_in_flight: usize,
    /// How many generators there are.
    pub generators: usize,
}

impl Order {
    /// What generator `number`, from 0, does of it.
    pub fn plan(&self, number: usize) -> Plan {
        let part = Part {
            number,
            of: self.generators,
        };
        Plan {
            timeout: self.timeout,
            drain: self.drain,
            max_in_flight: part.share(self.max_in_flight),
            part,
            ..Plan::of(
                self.target.clone(),
                self.stages.clone(),
                quotes::templates(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_bound_is_divided_to_the_last_one(
            max_in_flight in 0usize..10_000, generators in 1usize..50
        ) {
            let order = Order {
                target: Target::of("http://quotes.test"),
                stages: vec![Stage::constant(10.0, Duration::from_secs(1))],
                timeout: Duration::from_secs(1),
                drain: Duration::from_secs(1),
                max_in_flight,
                generators,
            };
            let shares: Vec<usize> =
                (0..generators).map(|number| order.plan(number).max_in_flight).collect();
            prop_assert_eq!(shares.iter().sum::<usize>(), max_in_flight);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1);
        }
    }
}
