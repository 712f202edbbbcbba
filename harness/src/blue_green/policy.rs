//! How a service is released, as `harness.toml` says.

use std::collections::BTreeMap;
use std::time::Duration;

use super::analysis::Thresholds;
use crate::service::Service;

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
    /// How long green is watched after the switch.
    pub analysis: Duration,
    /// From the switch, the time whose latency is not held against green: its connections
    /// and caches are cold. Shorter than `analysis`; its errors count from the first on.
    pub warm_up: Duration,
    /// From the end of the analysis until the old colour goes to 0.
    pub drain: Duration,
    /// What is allowed while green is watched.
    pub thresholds: Thresholds,
    /// By service, the paths that are asked of the preview Service and, after the switch, of
    /// the active one: each must answer 2xx and sign with the new version.
    pub smoke: BTreeMap<Service, Vec<String>>,
}
