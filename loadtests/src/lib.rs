//! Load on the TRII platform, and what it is measured against.

pub mod arrivals;
pub mod baseline;
pub mod bench;
pub mod closed;
pub mod compared;
mod course;
pub mod journeys;
pub mod k6;
pub mod open;
pub mod outcome;
pub mod perf;
pub mod profile;
pub mod raw_log;
pub mod regression;
pub mod result;
pub mod run;
pub mod shown;
pub mod threshold;
mod versions;
