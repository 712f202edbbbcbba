//! One invocation and its folder: what happened, written down as it happens.

pub mod event;
