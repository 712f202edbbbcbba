//! Processes: who they are, and children that cannot outlive their owner.

pub mod bound;
#[cfg(target_os = "linux")]
mod descendants;
pub mod identity;
pub mod search;
pub mod user;
