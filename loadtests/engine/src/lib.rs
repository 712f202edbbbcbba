//! The open-model engine, and the form in which every engine's results are kept.
//!
//! It is a crate of its own because load is made by `cargo xtask` itself: it alone, and what it
//! stands on, is compiled for speed in every profile.

pub mod open;
pub mod raw_log;
pub mod result;
pub mod run;
pub mod versions;
