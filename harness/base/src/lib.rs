//! The base of every crate: waits, processes, the resource ledger, run events, exit codes, HTTP clients.

pub mod cargo;
pub mod duration;
pub mod entry_point;
pub mod exit;
pub mod file_lock;
pub mod home;
pub mod interrupts;
pub mod ledger;
pub mod listener;
pub mod owner;
pub mod process;
pub mod proxies;
pub mod run;
pub mod text;
pub mod tls;
pub mod wait;

pub use text::chain;
