//! The stages of a run that operations share. Each starts and ends its stage.

pub mod load;
pub mod preflight;
pub mod redeploy;
pub mod verify;
