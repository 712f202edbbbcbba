//! Asks a service at a fixed rate, on several lanes at once, and tells of every request what
//! became of it and who answered.
//!
//! The load is *open*: request `i` of a lane is due at `t0 + i / rate` whatever became of those
//! before it, and its latency counts from then. A server that stands still for a second thus
//! shows in every request that was due in that second, where a client that waits for its answer
//! before it asks again would show one ("coordinated omission"). Nothing is tried twice.
//!
//! The prober measures itself too: how late it sent what was due. One that [fell
//! behind](Lag::fell_behind) proves nothing, and says so.
//!
//! [`start`] runs it in this process, on a thread of its own; the program `prober` runs it in a
//! pod and prints [lines](mod@line). [`Cut`] sorts the answers by the moments of a release. In a pod
//! the program also [relays](mod@relay) connections that are made elsewhere.

pub mod answer;
pub mod bound;
pub mod classify;
mod clock;
mod connection;
pub mod cut;
pub mod difference;
pub mod figures;
pub mod lag;
mod lane;
pub mod line;
pub mod phase;
mod probing;
mod reach;
pub mod recording;
pub mod relay;
pub mod spec;
pub mod way;

pub use answer::{Answer, Identity, On, Outcome};
pub use clock::{cpu_of_this_process, cpu_of_this_thread, micros};
pub use cut::{Cut, LaneFigures, Pinned};
pub use difference::ClockDifference;
pub use figures::{Failure, Figures};
pub use lag::{FellBehind, Lag};
pub use phase::{Moments, Phase, Phases};
pub use probing::{Counted, Probing, StartError, start};
pub use reach::reachable;
pub use recording::{Recording, Vantage};
pub use relay::relay;
pub use spec::{Connections, Lane, Parts, Spec, SpecError, Target};
pub use way::Way;
