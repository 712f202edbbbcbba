//! Probers on an environment: one before its ingress, in this process, and one in its cluster,
//! as a pod. What they ask, and what is made of the answers, is the crate [`prober`]'s.
//!
//! An ingress hides failures by trying the next upstream, and a Service's clients in the
//! cluster do not go through it: both are looked at. Never through a port-forward, which pins
//! one pod.

mod inside;
mod outside;
mod seen;

pub use crate::cluster::access::MONITORING;
pub use crate::helper_pod::Owner;
pub use ::prober::*;
pub use inside::{Inside, InsideError, PART, close_all, service};
pub use outside::{Outside, through};
pub use seen::Seen;
