//! The chart in `fixtures/helm/trii-platform`, as helm renders it.
//!
//! The tests check every object of every values file. They also hold for services and environments
//! that are added later.

pub mod helm;
mod manifests;

mod addons;
mod autoscaling;
mod blue_green;
mod fit;
mod ingress;
mod namespaces;
mod network;
mod oci;
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
