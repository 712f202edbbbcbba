//! The load of an open profile, and how several generators send it together.
//!
//! Each generator has the complete [order](order::LoadOrder) and its own number. All start at the
//! same time, and each of n generators sends every n-th arrival of the schedule. Their results add
//! up to that of a single generator. Each prints [messages](message::GeneratorMessage).

pub mod message;
pub mod money;
pub mod order;
pub mod quotes;
