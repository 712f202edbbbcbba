//! The open-model engine, and the form of every engine's results.
//!
//! A separate crate and its dependencies are optimised in every profile, as `cargo xtask` itself
//! generates load.

pub mod journey;
pub mod names;
pub mod open;
pub mod raw_log;
pub mod result;
pub mod run;
pub mod versions;
