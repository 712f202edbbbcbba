//! Targets and environments: configuration, local, kind and remote, and the supervisor.

pub mod bring_up;
pub mod capability;
pub mod certificates;
pub mod chart_check;
pub mod charts;
pub mod config;
pub mod down;
pub mod environment;
pub mod exchange;
pub mod kind;
pub mod local;
pub mod preflight;
pub mod releases;
pub mod remote;
pub mod router;
pub mod status;
pub mod supervisor;
pub mod sweep;
