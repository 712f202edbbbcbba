//! The load that several generators send together.

use std::time::Duration;

use jiff::Timestamp;
use load_engine::journey::{UserVariables, WrittenJourney};
use load_engine::open::{GeneratorShare, LoadPlan, RateStage};
use prober::{IdentityHeaders, ProbeTarget};
use serde::{Deserialize, Serialize};

/// How a load is sent. It has no secrets, and is short: a pod has it as a variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadOrder {
    /// Where requests go.
    pub target: ProbeTarget,
    /// The rate of arrivals over time, of all generators together.
    pub stages: Vec<RateStage>,
    /// From when a request was due to the last byte of its response.
    pub timeout: Duration,
    /// As [`LoadPlan::drain`].
    pub drain: Duration,
    /// The most arrivals in flight, of all generators together. Further ones are dropped.
    pub max_in_flight: usize,
    /// The number of generators.
    pub generators: usize,
    /// The headers that name what answered.
    #[serde(default)]
    pub headers: IdentityHeaders,
}

/// What is sent. It may have secrets: a pod gets it on standard input, and it is never printed.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadStart {
    /// When the first arrival is due; if none, immediately.
    pub begin: Option<Timestamp>,
    /// The journeys of the arrivals.
    pub journeys: Vec<WrittenJourney>,
    /// What they may read.
    pub users: UserVariables,
}

impl LoadOrder {
    /// Returns the plan of generator `number`, from 0.
    pub fn plan(&self, number: usize, start: LoadStart) -> LoadPlan {
        let part = GeneratorShare {
            number,
            of: self.generators,
        };
        LoadPlan {
            timeout: self.timeout,
            drain: self.drain,
            max_in_flight: part.share(self.max_in_flight),
            part,
            headers: self.headers.clone(),
            users: start.users,
            ..LoadPlan::of(self.target.clone(), self.stages.clone(), start.journeys)
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
                headers: IdentityHeaders::default(),
            };
            let plan = |number| order.plan(number, LoadStart::default());
            let shares: Vec<usize> =
                (0..generators).map(|number| plan(number).max_in_flight).collect();
            prop_assert_eq!(shares.iter().sum::<usize>(), max_in_flight);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1);
        }
    }
}
