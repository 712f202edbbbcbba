//! Blue-green releases: two Deployments of a service, one of which has the traffic.

pub mod lock;
