//! The platform's release on a kind cluster: the chart, and what only this cluster knows.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::config::{Config, KindTarget};
use crate::release::Release;

/// The platform's repository on the nodes; its tag is the version that is deployed.
pub const REPOSITORY: &str = "trii-rehearsal/platform";

/// The release of `version`; Postgres and Redis are within `backing_services`, a CIDR.
pub fn of(
    config: &Config,
    target: &KindTarget,
    workspace: &Path,
    version: &str,
    backing_services: Option<&str>,
) -> Release {
    let overrides = overrides(config, version, backing_services);
    Release::of_platform(workspace, &target.values, overrides)
}

/// The platform's image on the nodes.
pub fn image(version: &str) -> String {
    format!("{REPOSITORY}:{version}")
}

fn overrides(config: &Config, version: &str, backing_services: Option<&str>) -> Value {
    let services: BTreeMap<&str, Value> = config
        .service_env
        .iter()
        .map(|(service, env)| (service.name(), json!({"env": env})))
        .collect();
    let platform = &config.platform;
    let cidrs: Vec<&str> = backing_services.into_iter().collect();
    let backing_services = json!({"cidrs": cidrs});
    json!({
        "global": {"imageRepository": REPOSITORY, "imageTag": version},
        "services": services,
        "ingress": {"hosts": {"site": platform.site_host, "api": platform.api_host}},
        "networkPolicy": {"database": backing_services, "redis": backing_services},
    })
}
