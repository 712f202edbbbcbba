//! The chart in `fixtures/helm/trii-platform`, as helm renders it.
//!
//! What is asserted holds for every object of every values file, so that a service or an
//! environment that is added later is held to it too.

pub mod helm;
mod manifests;

mod addons;
mod autoscaling;
mod blue_green;
mod ingress;
mod namespaces;
mod network;
mod references;
mod roles;
mod rollout;
mod schema;
mod security;
mod selectors;
mod sizes;
mod snapshot;
mod types;
mod values;
