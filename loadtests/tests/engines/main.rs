//! Both engines against a test platform, which can answer wrong, late or not at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

mod closed;
mod open;
mod platform;
