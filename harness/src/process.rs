//! Processes: who they are, and children that cannot outlive their owner.

pub mod bound;
pub mod identity;
pub mod search;
pub mod user;
