//! Processes: programs that this process starts, and how other processes are identified.
//!
//! - [`Program`] describes a child that runs until it is stopped, with a log file.
//! - [`run`], [`output_in`] and [`start_in`] run a command to its exit, with a deadline.
//!
//! Each child leads a process group, which receives its signals. [`run_bound`] ends a child
//! whose owner was killed.

mod command;
#[cfg(target_os = "linux")]
mod descendants;
mod group;
pub mod identity;
mod program;
pub mod run_bound;
pub mod search;
pub mod user;

pub use command::{CommandError, Subprocess, output_in, run, shown, start_in};
pub use group::Reach;
pub use program::{BoundChild, Program, StartError, describe, passed_on, variables};
