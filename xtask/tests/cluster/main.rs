//! Complete runs of the kind target under faults: bad input, and signals at every stage. Each
//! fault is reported in time, and nothing is left.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot continue panics, also in shared code"
)]
#![allow(
    dead_code,
    reason = "not every test binary uses all of the shared code"
)]

mod engine;
mod inputs;
#[path = "../support/leftovers.rs"]
mod leftovers;
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/requests.rs"]
mod requests;
#[path = "../support/rig.rs"]
mod rig;
