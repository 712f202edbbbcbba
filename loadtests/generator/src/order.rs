//! The load that several generators send together.

use std::time::Duration;

use load_engine::open::{GeneratorShare, LoadPlan, RateStage};
use prober::ProbeTarget;
use serde::{Deserialize, Serialize};

use crate::quotes;

/// A load of quotes. It has no secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadOrder {
    /// The platform's quotes.
    pub target: ProbeTarget,
    /// The rate over time, of all generators together.
    pub stages: Vec<RateStage>,
    /// From when a request was due to the last byte of its response.
    pub timeout: Duration,
    /// How long an interrupted run waits for the requests in flight, at most.
    pub drain: Duration,
    /// The most requests in flight, of all generators together. Further arrivals are dropped.
    pub max_in_flight: usize,
    /// The number of generators.
    pub generators: usize,
}

impl LoadOrder {
    /// Returns the plan of generator `number`, from 0.
    pub fn plan(&self, number: usize) -> LoadPlan {
        let part = GeneratorShare {
            number,
            of: self.generators,
        };
        LoadPlan {
            timeout: self.timeout,
            drain: self.drain,
            max_in_flight: part.share(self.max_in_flight),
            part,
            ..LoadPlan::of(
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
        fn the_bound_is_divided_equally(
            max_in_flight in 0usize..10_000, generators in 1usize..50
        ) {
            let order = LoadOrder {
                target: ProbeTarget::of("http://quotes.test"),
                stages: vec![RateStage::constant(10.0, Duration::from_secs(1))],
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
