//! Stands up, observes and tears down environments of the TRII platform, and
//! reports what happened.

mod api_server;
pub mod blue_green;
pub mod bring_up;
pub mod capability;
pub mod cargo;
pub mod certificates;
pub mod cluster;
pub mod config;
pub mod doctor;
pub mod down;
pub mod duration;
pub mod engine;
pub mod entry;
pub mod environment;
pub mod exit;
pub mod file_lock;
mod helper_pod;
pub mod home;
pub mod images;
pub mod indexed_job;
pub mod interrupts;
pub mod kind;
pub mod ledger;
pub mod local;
pub mod owner;
pub mod preflight;
pub mod prober;
pub mod process;
pub mod provision;
pub mod proxies;
pub mod rehearsal;
pub mod release;
pub mod remote;
pub mod report;
pub mod router;
pub mod run;
pub mod service;
pub mod status;
pub mod subprocess;
pub mod supervisor;
pub mod sweep;
pub mod tiers;
pub mod tls;
pub mod tokens;
pub mod tools;
pub mod tunnel;
pub mod wait;

/// An error with all that caused it, on one line: libraries keep the cause to themselves.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
