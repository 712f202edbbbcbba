//! What needs helm, or a cluster.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod chart;
mod tunnel;
