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

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct EndedRequest<'a> {
    /// The block in which it was due.
    pub block: u32,
    /// Whether it is the first one of an arrival.
    pub arrives: bool,
    /// From when it was due to its end.
    pub latency: Duration,
    /// From its start to its end.
    pub service_time: Duration,
    /// The status of its answer.
    pub status: Option<u16>,
    /// Bytes of the answer's body.
    pub received: u64,
    /// The reason if it counts as failed.
    pub failure: Option<&'a str>,
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
    /// Counts a request that has ended.
    pub fn ended(&mut self, request: EndedRequest<'_>) {
        let latency = self.latency.entry(request.block).or_insert_with(growing);
        count(latency, request.latency);
        count(&mut self.service_time, request.service_time);
        let block = self.endpoint.blocks.entry(request.block).or_default();
        block.requests += 1;
        block.arrivals += u64::from(request.arrives);
        block.failed += u64::from(request.failure.is_some());
        block.received += request.received;
        if let Some(status) = request.status {
            *self.endpoint.statuses.entry(status).or_default() += 1;
        }
        if let Some(failure) = request.failure {
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
