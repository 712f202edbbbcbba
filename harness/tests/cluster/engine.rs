//! On a real cluster, with the platform on it.

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
