//! What all workers counted, added up under its names.

use std::collections::BTreeMap;
use std::mem;

use super::record::Counts;
use crate::result::{Distribution, Endpoint};
use crate::versions::Versions;

/// The sum so far.
pub struct Collected {
    names: Vec<String>,
    /// By name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// What of it was not told of yet.
    news: BTreeMap<String, Endpoint>,
    /// Of all arrivals.
    pub lag: Distribution,
    /// Arrivals for which the system gave no port or file.
    pub without_port: u64,
    /// Which answered.
    pub versions: Versions,
}

impl Collected {
    /// Nothing yet.
    pub fn of(names: &[String]) -> Collected {
        Collected {
            names: names.to_vec(),
            endpoints: BTreeMap::new(),
            news: BTreeMap::new(),
            lag: Distribution::default(),
            without_port: 0,
            versions: Versions::default(),
        }
    }

    /// Adds what one worker counted.
    pub fn add(&mut self, counts: Counts) {
        self.lag.add(&counts.lag.into());
        self.without_port += counts.without_port;
        self.versions.add(&counts.versions);
        for (name, counted) in self.names.iter().zip(counts.endpoints) {
            let Some(endpoint) = counted.endpoint() else {
                continue;
            };
            for sum in [&mut self.endpoints, &mut self.news] {
                match sum.get_mut(name) {
                    Some(sum) => sum.add(&endpoint),
                    None => {
                        sum.insert(name.clone(), endpoint.clone());
                    }
                }
            }
        }
    }

    /// What was added since the last time.
    pub fn news(&mut self) -> BTreeMap<String, Endpoint> {
        mem::take(&mut self.news)
    }
}
