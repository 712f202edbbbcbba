//! The kind target, broken on purpose: bad input, and signals at every stage. Whatever
//! happens, it is said in time and nothing is left.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, also in what tests share"
)]
#![allow(
    dead_code,
    reason = "what is shared with the tests of the local target is not all used here"
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
