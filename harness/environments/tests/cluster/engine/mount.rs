//! Tests that start their own engine.

mod registry;
