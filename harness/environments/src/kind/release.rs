//! The platform's release on a kind cluster: the chart, and the values of this cluster.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::config::{Config, KindTarget};
use helm::Release;

/// The platform's repository on the nodes. Its tag is the deployed version.
pub const REPOSITORY: &str = "trii-rehearsal/platform";

/// Returns the release of `version`. Postgres and Redis are in `backing_services`, a CIDR.
pub fn of(
    config: &Config,
    target: &KindTarget,
    workspace: &Path,
    version: &str,
    backing_services: Option<&str>,
) -> Release {
    let services: BTreeMap<&str, Value> = config
        .services
        .iter()
        .map(|service| (service.name.as_str(), json!({"env": service.env})))
        .collect();
    let platform = &config.platform;
    let cidrs: Vec<&str> = backing_services.into_iter().collect();
    let backing_services = json!({"cidrs": cidrs});
    let overrides = json!({
        "global": {"imageRepository": REPOSITORY, "imageTag": version},
        "services": services,
        "ingress": {"hosts": {"site": platform.site_host, "api": platform.api_host}},
        "networkPolicy": {"database": backing_services, "redis": backing_services},
    });
    Release::of_platform(workspace, &target.values, overrides)
}

/// Returns the platform's image on the nodes.
pub fn image(version: &str) -> String {
    format!("{REPOSITORY}:{version}")
}
