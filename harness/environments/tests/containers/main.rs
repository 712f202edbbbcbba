//! Tests that need a container engine. The module's name is `engine`, so that a runner can leave
//! them out if no engine answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

mod engine;
#[path = "../support/oci.rs"]
mod oci;
