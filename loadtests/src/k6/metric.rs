//! k6's own metrics: what they are called, and what they contain.

use serde::Serialize;

use crate::threshold;

/// One of k6's metrics, or one that was added to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub contains: Contains,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Counter,
    Gauge,
    Trend,
    Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contains {
    Default,
    Time,
    Data,
}

impl Metric {
    pub const REQUESTS: Metric = counter("http_reqs");
    pub const DURATION: Metric = trend("http_req_duration");
    pub const BLOCKED: Metric = trend("http_req_blocked");
    pub const CONNECTING: Metric = trend("http_req_connecting");
    pub const TLS_HANDSHAKING: Metric = trend("http_req_tls_handshaking");
    pub const SENDING: Metric = trend("http_req_sending");
    pub const WAITING: Metric = trend("http_req_waiting");
    pub const RECEIVING: Metric = trend("http_req_receiving");
    pub const FAILED: Metric = rate("http_req_failed");
    pub const CHECKS: Metric = rate("checks");
    pub const DATA_SENT: Metric = data("data_sent");
    pub const DATA_RECEIVED: Metric = data("data_received");
    pub const ITERATION_DURATION: Metric = trend("iteration_duration");
    pub const ITERATIONS: Metric = counter("iterations");
    pub const DROPPED: Metric = counter("dropped_iterations");
    pub const VUS: Metric = gauge("vus");
    pub const VUS_MAX: Metric = gauge("vus_max");
    pub const ERROR_SHARE: Metric = rate("error_share");
}

const fn metric(name: &'static str, kind: Kind, contains: Contains) -> Metric {
    Metric {
        name,
        kind,
        contains,
    }
}

const fn counter(name: &'static str) -> Metric {
    metric(name, Kind::Counter, Contains::Default)
}

const fn data(name: &'static str) -> Metric {
    metric(name, Kind::Counter, Contains::Data)
}

const fn gauge(name: &'static str) -> Metric {
    metric(name, Kind::Gauge, Contains::Default)
}

const fn rate(name: &'static str) -> Metric {
    metric(name, Kind::Rate, Contains::Default)
}

const fn trend(name: &'static str) -> Metric {
    metric(name, Kind::Trend, Contains::Time)
}

impl From<threshold::Metric> for Metric {
    fn from(metric: threshold::Metric) -> Metric {
        match metric {
            threshold::Metric::Duration => Metric::DURATION,
            threshold::Metric::Failed => Metric::FAILED,
            threshold::Metric::Requests => Metric::REQUESTS,
            threshold::Metric::Iterations => Metric::ITERATIONS,
            threshold::Metric::Dropped => Metric::DROPPED,
            threshold::Metric::Received => Metric::DATA_RECEIVED,
            threshold::Metric::Checks => Metric::CHECKS,
            threshold::Metric::ErrorShare => Metric::ERROR_SHARE,
        }
    }
}
