//! How a service is released, as `harness.toml` says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::analysis::Thresholds;
use super::canary::Canary;
use super::ingress::IngressMetrics;
use super::prometheus::Prometheus;
use super::traffic::MetricNames;
use crate::service::Service;

/// What shows whether a version is as good as the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Users' requests, as the pods count them: without enough of them it is taken back.
    #[default]
    Required,
    /// Users' requests, as Prometheus has them: as above.
    Prometheus,
    /// Requests of the deployer's own on the smoke paths, for services without users or metrics.
    Probe,
    /// Nothing but that its pods stay ready and are not started again.
    None,
}

impl Evidence {
    /// Whether it is what users' requests show.
    pub fn is_users(self) -> bool {
        matches!(self, Evidence::Required | Evidence::Prometheus)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Evidence::Required => "required",
            Evidence::Prometheus => "prometheus",
            Evidence::Probe => "probe",
            Evidence::None => "none",
        })
    }
}

/// How a service is released: `[blue_green]` of `harness.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How long the lock lasts without being renewed: so long does a deployer wait for one
    /// that was killed.
    pub lease: Duration,
    /// How long green may take, from its first pod to a complete rollout.
    pub green_ready: Duration,
    /// How long blue is watched before the switch.
    pub baseline: Duration,
    /// What shows after the switch whether green is as good as blue was.
    pub analysis: Evidence,
    /// What the pods call the metrics that it is judged by.
    pub metrics: MetricNames,
    /// Where Prometheus is, and what it is asked.
    pub prometheus: Option<Prometheus>,
    /// Where an ingress counts what it answers by itself; none: it is not asked.
    pub ingress: Option<IngressMetrics>,
    /// How the ingress routes traffic to green before the switch; none: it does not.
    pub canary: Option<Canary>,
    /// How long green is watched after the switch, and at each weight before it.
    pub watch: Duration,
    /// From the switch, the time whose latency is not held against green: its connections
    /// and caches are cold. Shorter than `watch`; its errors count from the first on.
    pub warm_up: Duration,
    /// From the end of the analysis until the old colour goes to 0.
    pub drain: Duration,
    /// What is allowed while green is watched.
    pub thresholds: Thresholds,
    /// By service, what is asked of the preview Service and, after the switch, of the active one;
    /// each must be answered as [`expected`] reads it, and signed with the new version.
    pub smoke: BTreeMap<Service, Vec<String>>,
}

/// The path that a smoke request is for, and the status that it must be answered with; none: any
/// 2xx. `/quotes`, or `401 /portfolios/me`.
pub fn expected(request: &str) -> (&str, Option<u16>) {
    match request.split_once(' ') {
        Some((status, path)) => (path, status.parse().ok()),
        None => (request, None),
    }
}
