//! Stands up, observes and tears down environments of the TRII platform, and
//! reports what happened.

pub mod exit;
pub mod run;
