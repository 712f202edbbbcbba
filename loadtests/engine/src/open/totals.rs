//! The sum of the workers' counts, by name.

use std::collections::BTreeMap;
use std::mem;

use super::recorder::WorkerCounts;
use crate::result::{Distribution, Endpoint};
use crate::versions::Versions;

/// The sum so far.
pub struct Totals {
    names: Vec<String>,
    /// By name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// What was added since the last progress.
    since_last: BTreeMap<String, Endpoint>,
    /// The lag of all arrivals.
    pub lag: Distribution,
    /// Arrivals for which there was no port or file.
    pub without_port: u64,
    /// The versions that answered.
    pub versions: Versions,
}

impl Totals {
    /// Totals without any counts.
    pub fn of(names: &[String]) -> Totals {
        Totals {
            names: names.to_vec(),
            endpoints: BTreeMap::new(),
            since_last: BTreeMap::new(),
            lag: Distribution::default(),
            without_port: 0,
            versions: Versions::default(),
        }
    }

    /// Adds the counts of one worker.
    pub fn add(&mut self, counts: WorkerCounts) {
        self.lag.add(&counts.lag.into());
        self.without_port += counts.without_port;
        self.versions.add(&counts.versions);
        for (name, counted) in self.names.iter().zip(counts.endpoints) {
            let Some(endpoint) = counted.endpoint() else {
                continue;
            };
            for sum in [&mut self.endpoints, &mut self.since_last] {
                match sum.get_mut(name) {
                    Some(sum) => sum.add(&endpoint),
                    None => {
                        sum.insert(name.clone(), endpoint.clone());
                    }
                }
            }
        }
    }

    /// Returns what was added since the last call.
    pub fn since_last(&mut self) -> BTreeMap<String, Endpoint> {
        mem::take(&mut self.since_last)
    }
}
