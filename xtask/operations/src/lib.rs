//! The operations that carry out commands. The command line only parses.
//!
//! Each operation is a module: it takes a [`Context`](invocation::Context) and plain options,
//! reports to an [`Output`](output::Output), and returns a [`CommandOutcome`](outcome::CommandOutcome). Below
//! the operations are the `stages` that their runs share, and below those the parts of a run: its
//! environment, its outcome and its messages.

pub mod bench;
pub mod blue_green;
mod checkout;
mod comparison;
pub mod deploy;
pub mod doctor;
pub mod down;
pub mod e2e;
mod ephemeral;
pub mod images;
pub mod init;
mod instructions;
pub mod invocation;
pub mod load;
pub mod outcome;
pub mod output;
pub mod perf;
pub mod problem;
mod remote;
pub mod report;
mod reuse;
pub mod scenario;
#[cfg(test)]
mod schemas;
mod stages;
pub mod status;
mod supervised;
pub mod test;
pub mod tiers;
pub mod up;
