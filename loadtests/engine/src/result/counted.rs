//! One endpoint's answers while they are counted.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Endpoint;
use super::distribution::{count, growing};

/// What was counted of one endpoint. Its times are in histograms of all buckets, the fastest
/// there are to count in; the rest is in the result's own form.
pub struct Counted {
    /// All but its times.
    pub endpoint: Endpoint,
    /// By block.
    latency: BTreeMap<u32, Histogram<u32>>,
    service_time: Histogram<u32>,
}

impl Default for Counted {
    fn default() -> Counted {
        Counted {
            endpoint: Endpoint::default(),
            latency: BTreeMap::new(),
            service_time: growing(),
        }
    }
}

impl Counted {
    /// Counts a request that has ended, and was answered with so many bytes of a body. What was
    /// wrong where it failed is its engine's to say.
    pub fn ended(
        &mut self,
        block: u32,
        (latency, service_time): (Duration, Duration),
        received: u64,
        failed: bool,
    ) {
        count(self.latency.entry(block).or_insert_with(growing), latency);
        count(&mut self.service_time, service_time);
        let block = self.endpoint.blocks.entry(block).or_default();
        block.requests += 1;
        block.failed += u64::from(failed);
        block.received += received;
    }

    /// Counts a request that was due, and not sent.
    pub fn dropped(&mut self, block: u32) {
        self.endpoint.blocks.entry(block).or_default().dropped += 1;
    }

    /// In the result's own form; none where nothing was counted.
    pub fn endpoint(self) -> Option<Endpoint> {
        let mut endpoint = self.endpoint;
        if endpoint.blocks.is_empty() {
            return None;
        }
        for (block, latency) in self.latency {
            endpoint.blocks.entry(block).or_default().latency = latency.into();
        }
        endpoint.service_time = self.service_time.into();
        Some(endpoint)
    }
}
