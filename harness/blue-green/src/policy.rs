//! How a service is released, as configured in `harness.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::analysis::Thresholds;
use super::ingress::IngressMetrics;
use super::prometheus::Prometheus;
use super::traffic::MetricNames;
use super::version_source::VersionSources;

/// What the analysis of a new version is based on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Users' requests, as the pods count them. Without enough requests it is rolled back.
    #[default]
    Required,
    /// Users' requests, as Prometheus counts them.
    Prometheus,
    /// The deployer's own requests to the smoke paths, for services without users or metrics.
    Probe,
    /// Only the readiness and the restarts of its pods.
    None,
}

impl Evidence {
    /// Returns whether it is users' requests.
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

/// How an ingress routes traffic to a new colour before the switch: `[blue_green.canary]` of
/// `harness.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The shares of the requests, in percent, one after the other. The switch follows the last.
    pub weights: Vec<u8>,
    /// After the checks, requests with this header and the value `always` reach the new colour.
    pub header: Option<String>,
}

/// How a service is released: `[blue_green]` of `harness.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How long the lock lasts without a renewal, and so how long a deployer waits for a dead one.
    pub lease: Duration,
    /// How long green may take, from its first pod to a complete rollout.
    pub green_ready: Duration,
    /// How long blue's traffic is measured before the switch.
    pub baseline: Duration,
    /// What the analysis of green is based on.
    pub analysis: Evidence,
    /// The names of the pods' metrics.
    pub metrics: MetricNames,
    /// Where Prometheus is, and its queries.
    pub prometheus: Option<Prometheus>,
    /// Where the ingress counts its own error responses; none: they are not counted.
    pub ingress: Option<IngressMetrics>,
    /// How the ingress routes traffic to green before the switch; none: it does not.
    pub canary: Option<Canary>,
    /// How long green is watched after the switch, and at each weight before it.
    pub watch: Duration,
    /// How long after the switch green's latency does not count, while its connections and caches
    /// are cold. Shorter than `watch`. Its errors count from the start.
    pub warm_up: Duration,
    /// From the end of the analysis until the old colour is scaled to 0.
    pub drain: Duration,
    /// The thresholds of the analysis.
    pub thresholds: Thresholds,
    /// How a new version names itself.
    pub versions: VersionSources,
    /// By service, the requests to the preview Service and, after the switch, to the active one.
    /// The new version must answer each with the status that [`expected`] returns.
    pub smoke: BTreeMap<String, Vec<String>>,
}

/// Returns the path of a smoke request, and the status of its answer; none: any 2xx. Examples of
/// requests: `/quotes`, `401 /portfolios/me`.
pub fn expected(request: &str) -> (&str, Option<u16>) {
    match request.split_once(' ') {
        Some((status, path)) => (path, status.parse().ok()),
        None => (request, None),
    }
}
