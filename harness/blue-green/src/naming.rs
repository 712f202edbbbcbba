//! Names and labels of the deployer's objects in the cluster, and its field manager.

use std::collections::BTreeMap;

use kube::api::{PatchParams, PostParams};

/// The field manager of the deployer. The cluster's policy permits only this one to move traffic.
pub const FIELD_MANAGER: &str = "trii-blue-green";

pub(super) const NAME: &str = "app.kubernetes.io/name";

/// Returns the name of the ConfigMap with a service's record, and of the Lease that is its lock.
pub fn record_name(service: &str) -> String {
    format!("{service}-blue-green")
}

/// Returns the labels of the record and the lock.
pub fn labels(service: &str) -> BTreeMap<String, String> {
    let manager = kubernetes::apply::FIELD_MANAGER;
    [(NAME, service), ("app.kubernetes.io/managed-by", manager)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// As [`as_deployer`], for creates and replaces.
pub(super) fn posted_as_deployer() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Returns the parameters of patches by the deployer's field manager.
pub fn as_deployer() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
