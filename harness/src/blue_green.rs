//! Blue-green releases: two Deployments of a service, one of which has the traffic.

pub mod analysis;
pub mod exposition;
pub mod histogram;
pub mod lock;
pub mod policy;
pub mod traffic;
