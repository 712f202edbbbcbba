//! Load on the TRII platform, and what it is measured against.

pub mod bench;
pub mod result;
pub mod threshold;
