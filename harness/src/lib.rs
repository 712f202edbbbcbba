//! Stands up, observes and tears down environments of the TRII platform, and
//! reports what happened.

pub mod config;
pub mod doctor;
pub mod duration;
pub mod engine;
pub mod environment;
pub mod exit;
mod file_lock;
pub mod home;
pub mod images;
pub mod ledger;
pub mod process;
pub mod provision;
pub mod report;
pub mod router;
pub mod run;
pub mod service;
pub mod subprocess;
pub mod tools;
pub mod wait;
