//! What a threshold can be of.

use std::fmt;

use super::error::Mistake;

/// What a threshold can be of, in k6's names and one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `http_req_duration`: from the intended start to the end of the answer, in ms.
    Duration,
    /// `http_req_failed`: the share without an expected status.
    Failed,
    /// `http_reqs`: requests sent.
    Requests,
    /// `iterations`: of the open model, the same.
    Iterations,
    /// `dropped_iterations`: arrivals that were due and not sent.
    Dropped,
    /// `data_received`: bytes of the answers' bodies.
    Received,
    /// `checks`: the share of good answers.
    Checks,
    /// `error_share`, which k6 does not have: the share without a good answer.
    ErrorShare,
}

/// What a metric's values are, and so what can be said of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Times: an average, percentiles.
    Trend,
    /// A sum, and how much a second.
    Counter,
    /// A share, 0 to 1.
    Rate,
}

/// What k6 measures besides, which a load result does not have.
const OF_K6_ALONE: [&str; 12] = [
    "vus",
    "vus_max",
    "iteration_duration",
    "group_duration",
    "data_sent",
    "http_req_blocked",
    "http_req_connecting",
    "http_req_tls_handshaking",
    "http_req_sending",
    "http_req_waiting",
    "http_req_receiving",
    "grpc_req_duration",
];

impl Metric {
    /// Every metric.
    pub const ALL: [Metric; 8] = [
        Metric::Duration,
        Metric::Failed,
        Metric::Requests,
        Metric::Iterations,
        Metric::Dropped,
        Metric::Received,
        Metric::Checks,
        Metric::ErrorShare,
    ];

    /// Its name, k6's where k6 has it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Duration => "http_req_duration",
            Metric::Failed => "http_req_failed",
            Metric::Requests => "http_reqs",
            Metric::Iterations => "iterations",
            Metric::Dropped => "dropped_iterations",
            Metric::Received => "data_received",
            Metric::Checks => "checks",
            Metric::ErrorShare => "error_share",
        }
    }

    /// What its values are.
    pub fn kind(self) -> Kind {
        match self {
            Metric::Duration => Kind::Trend,
            Metric::Requests | Metric::Iterations | Metric::Dropped | Metric::Received => {
                Kind::Counter
            }
            Metric::Failed | Metric::Checks | Metric::ErrorShare => Kind::Rate,
        }
    }

    pub(super) fn named(name: &str) -> Result<Metric, Mistake> {
        let found = Metric::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| match OF_K6_ALONE.contains(&name) {
            true => Mistake::NotMeasured(name.to_owned()),
            false => Mistake::UnknownMetric(name.to_owned()),
        })
    }
}

impl Kind {
    /// The words that are said of it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Kind::Trend => "avg, min, med, max, p(N)",
            Kind::Counter => "count, rate",
            Kind::Rate => "rate",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
