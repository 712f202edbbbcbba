//! Complete runs of the local target under faults: signals at every stage, parts that die, disks
//! that fill up. Each fault is reported in time, and nothing is left.
//!
//! Other tests open pages in a browser.
//!
//! The tests of `engine` need a container engine, and those of `mount` mount a file system. The
//! others run Postgres and Redis from binaries.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot continue panics, also in shared code"
)]
#![allow(
    dead_code,
    reason = "not every test binary uses all of the shared code"
)]

mod browser;
mod checks;
mod colours;
mod engine;
mod environments;
mod faults;
#[path = "../support/leftovers.rs"]
mod leftovers;
mod load;
#[path = "../support/machine.rs"]
mod machine;
mod mount;
mod perf;
#[path = "../support/requests.rs"]
mod requests;
#[path = "../support/rig.rs"]
mod rig;
mod schemas;
mod secrets;
mod silence;
mod soak;
mod stages;
mod surroundings;
mod tools;
mod way_in;
mod your_platform;
