//! Tests that need helm or a cluster: the one that `cargo xtask test` brings up for all of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

mod chart;
mod engine;
