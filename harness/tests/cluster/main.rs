//! What needs helm, or a cluster: the one that `cargo xtask test` stands up for all of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod chart;
mod engine;
