//! On a real cluster, with the platform on it.

mod deploys;
mod dry_run;
mod images;
mod shared;
mod tunnel;
