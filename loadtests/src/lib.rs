//! Load on the TRII platform, and what it is measured against.

pub mod arrivals;
pub mod baseline;
pub mod bench;
pub mod closed;
pub mod compared;
mod course;
pub mod generators;
pub mod journeys;
pub mod k6;
pub mod outcome;
pub mod perf;
pub mod profile;
pub mod regression;
pub mod shown;
pub mod threshold;

pub use load_engine::{open, raw_log, result, run};

use load_engine::versions;
