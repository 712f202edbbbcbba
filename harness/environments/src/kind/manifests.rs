//! What the chart does not contain: the manifests of `fixtures/k8s-manifests`, and Secrets.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::certificates::Certificates;
use crate::environment::{Credentials, Secrets};
use machine::images::ImageReference;

pub(super) const NAMESPACES: &str = "fixtures/k8s-manifests/namespaces/namespaces.yaml";
const INGRESS: &str = "fixtures/k8s-manifests/ingress/traefik.yaml";
const BLUE_GREEN: &str = "fixtures/k8s-manifests/blue-green/policy.yaml";
const METRICS_SERVER: &str = "fixtures/k8s-manifests/metrics-server/metrics-server.yaml";

/// Returns the manifests of the repository, with the images in them, in the order to apply them.
///
/// # Errors
/// A manifest cannot be read; the error names it.
pub fn manifests(
    workspace: &Path,
    ingress: &ImageReference,
    metrics_server: &ImageReference,
) -> io::Result<Vec<String>> {
    // The ingress takes the longest to become ready.
    let files = [INGRESS, NAMESPACES, BLUE_GREEN, METRICS_SERVER].map(|file| {
        let path = workspace.join(file);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(named)?;
        let text = text.replace("${INGRESS_IMAGE}", &ingress.to_string());
        Ok(text.replace("${METRICS_SERVER_IMAGE}", &metrics_server.to_string()))
    });
    files.into_iter().collect()
}

/// Returns all Secrets, by name and key. `postgres` and `redis` are hosts that pods resolve.
pub fn secrets(
    secrets: &Secrets,
    postgres: &str,
    redis: &str,
    certificates: &Certificates,
) -> [(&'static str, BTreeMap<&'static str, String>); 4] {
    let Secrets {
        postgres_password,
        redis_password,
        jwt_secret,
        demo_password,
    } = secrets;
    let database = format!("postgres://trii:{postgres_password}@{postgres}:5432/postgres");
    let cache = format!("redis://:{redis_password}@{redis}:6379");
    let jwt = [
        (Credentials::JWT_SECRET, jwt_secret.clone()),
        (Credentials::DEMO_PASSWORD, demo_password.clone()),
    ];
    let tls = [
        ("tls.crt", certificates.certificate_pem.clone()),
        ("tls.key", certificates.key_pem.clone()),
    ];
    [
        ("database-credentials", BTreeMap::from([("url", database)])),
        ("redis-credentials", BTreeMap::from([("url", cache)])),
        (Credentials::SECRET, BTreeMap::from(jwt)),
        ("trii-tls", BTreeMap::from(tls)),
    ]
}
