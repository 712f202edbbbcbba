//! Whole runs of the local target, and what is done to them: signals at every stage, parts
//! that die, disks that fill up. Whatever happens, it is said in time and nothing is left.
//!
//! What needs a container engine is in `engine`, what mounts a file system in `mount`; the
//! rest brings Postgres and Redis up from binaries.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, also in what tests share"
)]
#![allow(
    dead_code,
    reason = "what is shared with the tests of the kind target is not all used here"
)]

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
mod secrets;
mod silence;
mod soak;
mod stages;
mod surroundings;
mod way_in;
