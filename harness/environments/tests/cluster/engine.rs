//! Tests on a real cluster that has the platform.

mod blue_green;
mod deployer;
mod deploys;
mod dry_run;
mod images;
mod mount;
mod prometheus;
mod shared;
mod together;
mod tunnel;
