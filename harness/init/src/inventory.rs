//! What the objects of a platform show.

mod images;
mod routes;
mod secrets;
mod services;

use serde::Serialize;

pub use images::FoundImage;
pub use routes::FoundRoute;
pub use secrets::{FoundKey, FoundSecret, SecretUse};
pub use services::{FoundContainer, FoundPods, FoundPort, FoundProbe, FoundService};

use crate::objects::PlatformObjects;

/// What the objects of a platform show.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inventory {
    /// The Services that select pods.
    pub services: Vec<FoundService>,
    /// The images of the pods.
    pub images: Vec<FoundImage>,
    /// The Secrets that pods or Ingresses read, and that nothing supplies.
    pub secrets: Vec<FoundSecret>,
    /// The routes of the Ingresses.
    pub routes: Vec<FoundRoute>,
    /// The classes of the Ingresses.
    pub ingress_classes: Vec<String>,
    /// The kinds that a cluster has only with their definitions.
    pub custom_kinds: Vec<String>,
}

/// Returns what the objects show.
pub fn take(objects: &PlatformObjects) -> Inventory {
    Inventory {
        services: services::find(objects),
        images: images::find(&objects.workloads),
        secrets: secrets::find(objects),
        routes: routes::find(&objects.ingresses),
        ingress_classes: routes::classes(&objects.ingresses),
        custom_kinds: objects.custom_kinds.iter().cloned().collect(),
    }
}

impl Inventory {
    /// Returns the hosts of the routes, each once.
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts = Vec::new();
        for host in self.routes.iter().filter_map(|it| it.host.as_deref()) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// Returns the most frequent tag of the services' images.
    pub fn version(&self) -> Option<&str> {
        let services = self.services.iter().filter(|it| it.backing.is_none());
        let containers = services
            .flat_map(|it| &it.pods)
            .flat_map(|it| &it.containers);
        let tags: Vec<&str> = containers.filter_map(|it| images::tag(&it.image)).collect();
        let count = |tag: &str| tags.iter().filter(|it| **it == tag).count();
        // Of several, the first.
        tags.iter().rev().copied().max_by_key(|tag| count(tag))
    }
}

#[cfg(test)]
mod tests;
