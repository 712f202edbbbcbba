//! The load of an open profile, and how several generators send it together.
//!
//! Each generator has the complete [order](order::LoadOrder) and its own number, and later gets the
//! same [start](order::LoadStart). All start at the same time, and each of n generators sends every
//! n-th arrival of the schedule. Their results add up to that of a single generator. Each prints
//! [messages](message::GeneratorMessage).

pub mod message;
pub mod order;
