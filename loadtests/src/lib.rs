//! Load tests of the TRII platform, and how their results are evaluated.

pub mod arrivals;
pub mod baseline;
pub mod bench;
pub mod closed;
pub mod compare;
pub mod generators;
pub mod journeys;
pub mod k6;
pub mod measurement;
mod monitor;
pub mod outcome;
pub mod perf;
pub mod profile;
pub mod regression;
pub mod show;
pub mod threshold;
pub mod users;

pub use load_engine::{open, raw_log, result, run};

use load_engine::{names, versions};
