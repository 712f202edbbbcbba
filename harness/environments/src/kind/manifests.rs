//! What the charts do not contain: manifests of the repository, namespaces, and Secrets.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::certificates::Certificates;
use crate::config::placeholders::{Values, render};
use crate::config::{Config, Platform};
use crate::environment::Secrets;
use machine::images::ImageReference;

const INGRESS: &str = "fixtures/k8s-manifests/ingress/traefik.yaml";
const METRICS_SERVER: &str = "fixtures/k8s-manifests/metrics-server/metrics-server.yaml";

/// Returns the manifests of the harness and of the platform, with the images in them, in the order
/// to apply them.
///
/// # Errors
/// A manifest cannot be read; the error names it.
pub fn manifests(
    workspace: &Path,
    platform: &Platform,
    ingress: &ImageReference,
    metrics_server: &ImageReference,
) -> io::Result<Vec<String>> {
    // The ingress takes the longest to become ready.
    let ours = [INGRESS, METRICS_SERVER].map(Path::new);
    let theirs = platform.manifests.iter().map(AsRef::as_ref);
    let [first, last] = ours;
    let files = [first].into_iter().chain(theirs).chain([last]);
    let files = files.map(|file| {
        let path = workspace.join(file);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(named)?;
        let text = text.replace("${INGRESS_IMAGE}", &ingress.to_string());
        Ok(text.replace("${METRICS_SERVER_IMAGE}", &metrics_server.to_string()))
    });
    files.collect()
}

/// Returns the manifest of a namespace.
pub fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n")
}

/// Hosts of the backing services that pods resolve.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackingHosts<'a> {
    /// Postgres' host, if the platform needs it.
    pub postgres: Option<&'a str>,
    /// Redis' host, if the platform needs it.
    pub redis: Option<&'a str>,
}

/// Returns all Secrets of the platform, by name and key.
pub fn secrets(
    config: &Config,
    secrets: &Secrets,
    hosts: BackingHosts<'_>,
    certificates: &Certificates,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let values = values(config, secrets, hosts);
    let rendered = config.secrets.iter().map(|(name, texts)| {
        let texts = texts.iter();
        let values = texts.map(|(key, text)| (key.clone(), render(text, &values)));
        (name.clone(), values.collect())
    });
    let tls = config.platform.tls_secret.iter().map(|name| {
        let pair = [
            ("tls.crt".to_owned(), certificates.certificate_pem.clone()),
            ("tls.key".to_owned(), certificates.key_pem.clone()),
        ];
        (name.clone(), BTreeMap::from(pair))
    });
    rendered.chain(tls).collect()
}

fn values(config: &Config, secrets: &Secrets, hosts: BackingHosts<'_>) -> Values {
    let postgres = hosts
        .postgres
        .zip(config.backing_services.postgres.as_ref());
    let database_url = |(host, postgres)| secrets.database_url(postgres, &format!("{host}:5432"));
    let redis_url = |host| secrets.redis_url(&format!("{host}:6379"));
    let mut values = Values::from([
        ("jwt_secret", secrets.jwt_secret.clone()),
        ("demo_password", secrets.demo_password.clone()),
    ]);
    values.extend(postgres.map(|it| ("database_url", database_url(it))));
    values.extend(hosts.redis.map(|host| ("redis_url", redis_url(host))));
    values
}
