//! Counts the answers of one endpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Endpoint;
use super::distribution::{count, growing};

/// The counts of one endpoint. Times are in uncompressed histograms, which are the fastest.
pub struct EndpointCounts {
    /// Everything but the times.
    endpoint: Endpoint,
    /// By block.
    latency: BTreeMap<u32, Histogram<u32>>,
    service_time: Histogram<u32>,
}

impl Default for EndpointCounts {
    fn default() -> EndpointCounts {
        EndpointCounts {
            endpoint: Endpoint::default(),
            latency: BTreeMap::new(),
            service_time: growing(),
        }
    }
}

impl EndpointCounts {
    /// Counts a request that has ended, with its response's status and bytes, and its failure.
    pub fn ended(
        &mut self,
        block: u32,
        (latency, service_time): (Duration, Duration),
        (status, received): (Option<u16>, u64),
        failure: Option<&str>,
    ) {
        count(self.latency.entry(block).or_insert_with(growing), latency);
        count(&mut self.service_time, service_time);
        let block = self.endpoint.blocks.entry(block).or_default();
        block.requests += 1;
        block.failed += u64::from(failure.is_some());
        block.received += received;
        if let Some(status) = status {
            *self.endpoint.statuses.entry(status).or_default() += 1;
        }
        if let Some(failure) = failure {
            self.endpoint.failed(failure, 1);
        }
    }

    /// Counts an arrival that was not sent.
    pub fn dropped(&mut self, block: u32) {
        self.endpoint.blocks.entry(block).or_default().dropped += 1;
    }

    /// Returns the counts as in a result; none if nothing was counted.
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
