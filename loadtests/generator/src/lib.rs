//! What arrivals ask of the platform, and how several generators make them together.
//!
//! Each of them has the whole [order](order::Order) and its own number: it sends every so
//! many-eth arrival of the one schedule, all begin at the same moment, and what they measured
//! adds up to what a single one would have. What each says of itself are [lines](said::Said).

pub mod money;
pub mod order;
pub mod quotes;
pub mod said;
