//! The routes of the Ingresses.

use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use serde::Serialize;

/// Of ingress-nginx. <https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/>
const REWRITE: &str = "nginx.ingress.kubernetes.io/rewrite-target";

/// A path of an Ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundRoute {
    /// The Ingress.
    pub ingress: String,
    /// The host; none for every host.
    pub host: Option<String>,
    /// The path.
    pub path: String,
    /// How the path is read.
    pub path_type: String,
    /// What the path becomes.
    pub rewrite: Option<String>,
    /// The Service that answers.
    pub service: String,
    /// Whether the host has a certificate.
    pub tls: bool,
}

impl FoundRoute {
    /// Returns the part of the path before any pattern.
    pub fn prefix(&self) -> &str {
        let pattern = ['(', '[', '.', '*', '$', '|', '^', '\\', '?', '+'];
        let is_pattern = self.path_type == "ImplementationSpecific";
        let end = self.path.find(pattern).filter(|_| is_pattern);
        &self.path[..end.unwrap_or(self.path.len())]
    }
}

pub(super) fn find(ingresses: &[Ingress]) -> Vec<FoundRoute> {
    ingresses.iter().flat_map(of_ingress).collect()
}

fn of_ingress(ingress: &Ingress) -> Vec<FoundRoute> {
    let mut routes = Vec::new();
    let rewrite = ingress.annotations().get(REWRITE);
    let spec = ingress.spec.as_ref();
    for rule in spec.and_then(|it| it.rules.as_ref()).into_iter().flatten() {
        for path in rule.http.iter().flat_map(|it| &it.paths) {
            let Some(service) = &path.backend.service else {
                continue;
            };
            routes.push(FoundRoute {
                ingress: ingress.name_any(),
                host: rule.host.clone(),
                path: path.path.clone().unwrap_or_else(|| "/".into()),
                path_type: path.path_type.clone(),
                rewrite: rewrite.cloned(),
                service: service.name.clone(),
                tls: has_certificate(ingress, rule.host.as_deref()),
            });
        }
    }
    routes
}

/// An entry without hosts is for all.
fn has_certificate(ingress: &Ingress, host: Option<&str>) -> bool {
    let entries = ingress.spec.iter().flat_map(|it| it.tls.iter().flatten());
    let mut hosts = entries.map(|it| it.hosts.as_deref().unwrap_or_default());
    hosts.any(|hosts| hosts.is_empty() || host.is_some_and(|it| hosts.iter().any(|h| h == it)))
}

/// The classes of the Ingresses, each once; empty for one without a class.
pub(super) fn classes(ingresses: &[Ingress]) -> Vec<String> {
    let classes = ingresses.iter().map(|ingress| {
        let class = ingress
            .spec
            .as_ref()
            .and_then(|it| it.ingress_class_name.clone());
        class.unwrap_or_default()
    });
    let mut classes: Vec<String> = classes.collect();
    classes.sort();
    classes.dedup();
    classes
}
