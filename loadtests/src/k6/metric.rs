//! k6's metrics: their names, kinds and contents.

use serde::Serialize;

use crate::threshold;

/// A metric of k6, or of the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct K6Metric {
    pub name: &'static str,
    pub kind: K6MetricKind,
    pub contains: Contains,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum K6MetricKind {
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

impl K6Metric {
    pub const REQUESTS: K6Metric = metric("http_reqs", K6MetricKind::Counter);
    pub const DURATION: K6Metric = metric("http_req_duration", K6MetricKind::Trend);
    pub const BLOCKED: K6Metric = metric("http_req_blocked", K6MetricKind::Trend);
    pub const CONNECTING: K6Metric = metric("http_req_connecting", K6MetricKind::Trend);
    pub const TLS_HANDSHAKING: K6Metric = metric("http_req_tls_handshaking", K6MetricKind::Trend);
    pub const SENDING: K6Metric = metric("http_req_sending", K6MetricKind::Trend);
    pub const WAITING: K6Metric = metric("http_req_waiting", K6MetricKind::Trend);
    pub const RECEIVING: K6Metric = metric("http_req_receiving", K6MetricKind::Trend);
    pub const FAILED: K6Metric = metric("http_req_failed", K6MetricKind::Rate);
    pub const CHECKS: K6Metric = metric("checks", K6MetricKind::Rate);
    pub const DATA_SENT: K6Metric = data("data_sent");
    pub const DATA_RECEIVED: K6Metric = data("data_received");
    pub const ITERATION_DURATION: K6Metric = metric("iteration_duration", K6MetricKind::Trend);
    pub const ITERATIONS: K6Metric = metric("iterations", K6MetricKind::Counter);
    pub const DROPPED: K6Metric = metric("dropped_iterations", K6MetricKind::Counter);
    pub const VUS: K6Metric = metric("vus", K6MetricKind::Gauge);
    pub const VUS_MAX: K6Metric = metric("vus_max", K6MetricKind::Gauge);
    pub const ERROR_SHARE: K6Metric = metric("error_share", K6MetricKind::Rate);
}

/// A trend is of times.
const fn metric(name: &'static str, kind: K6MetricKind) -> K6Metric {
    let contains = match kind {
        K6MetricKind::Trend => Contains::Time,
        K6MetricKind::Counter | K6MetricKind::Gauge | K6MetricKind::Rate => Contains::Default,
    };
    K6Metric {
        name,
        kind,
        contains,
    }
}

const fn data(name: &'static str) -> K6Metric {
    K6Metric {
        contains: Contains::Data,
        ..metric(name, K6MetricKind::Counter)
    }
}

impl From<threshold::Metric> for K6Metric {
    fn from(metric: threshold::Metric) -> K6Metric {
        match metric {
            threshold::Metric::Duration => K6Metric::DURATION,
            threshold::Metric::Failed => K6Metric::FAILED,
            threshold::Metric::Requests => K6Metric::REQUESTS,
            threshold::Metric::Iterations => K6Metric::ITERATIONS,
            threshold::Metric::Dropped => K6Metric::DROPPED,
            threshold::Metric::Received => K6Metric::DATA_RECEIVED,
            threshold::Metric::Checks => K6Metric::CHECKS,
            threshold::Metric::ErrorShare => K6Metric::ERROR_SHARE,
        }
    }
}
