//! Tests that need helm or a cluster: the one that `cargo xtask test` brings up for all of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

mod chart;
#[path = "../support/chart_registry.rs"]
mod chart_registry;
mod engine;
#[path = "../support/oci.rs"]
mod oci;
