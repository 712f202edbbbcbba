//! Sends requests to a service at a fixed rate, in several concurrent lanes. Reports the outcome of
//! every request and the instance that answered.
//!
//! The load is *open*: request `i` of a lane is due at `t0 + i / rate`, independent of the requests
//! before it, and its latency counts from then. If a server stalls for a second, every request that
//! was due in that second is slow. A client that waits for each answer before it sends the next
//! request would see one slow request ("coordinated omission"). No request is retried.
//!
//! The prober also measures its own lag. If it [fell behind](Lag::fell_behind), its results are
//! inconclusive.
//!
//! [`start`] runs it in this process, on its own thread. The program `prober` runs it in a pod and
//! prints [lines](output_line). [`FiguresByPhase`] groups the answers by the phases of a release. In
//! a pod the program can also [relay](mod@relay) connections.

pub mod answer;
mod clock;
mod connection;
pub mod error_rate_bound;
pub mod figures;
pub mod figures_by_phase;
pub mod identity_headers;
pub mod lag;
mod lane;
pub mod output_line;
pub mod phase;
mod probing;
mod recorder;
pub mod recording;
pub mod relay;
pub mod spec;
pub mod transport;

pub use answer::{Answer, ConnectionUse, Identity, RequestOutcome};
pub use clock::{ClockDifference, cpu_of_this_process, cpu_of_this_thread, micros};
pub use connection::sent;
pub use figures::{AttributedFailure, Figures};
pub use figures_by_phase::{FiguresByPhase, LaneFigures, Pinned};
pub use identity_headers::IdentityHeaders;
pub use lag::{FellBehind, Lag};
pub use phase::{Moments, Phase, Phases};
pub use probing::{Probing, start};
pub use recorder::RequestCounts;
pub use recording::{Recording, Vantage};
pub use relay::relay;
pub use spec::{Connections, Lane, ProbeTarget, ProberError, Spec, SpecError, UrlParts};
pub use transport::{Transport, reachable};
