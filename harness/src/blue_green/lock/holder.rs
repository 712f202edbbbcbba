//! Who releases.

use std::fmt;

use nix::unistd::{Uid, User};

/// One run of a deployer, told from every other: `ana@laptop, pid 4711, run 20261125-...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose it is.
    pub user: String,
    /// The machine's name.
    pub host: String,
    /// The process there.
    pub pid: u32,
    /// The run's id.
    pub run: String,
}

impl Holder {
    /// This process, in the given run.
    pub fn this(run: &str) -> Holder {
        let uid = Uid::current();
        let user = User::from_uid(uid).ok().flatten();
        Holder {
            user: user.map_or_else(|| format!("uid {uid}"), |user| user.name),
            host: sysinfo::System::host_name().unwrap_or_else(|_| "unknown".to_owned()),
            pid: std::process::id(),
            run: run.to_owned(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder {
            user,
            host,
            pid,
            run,
        } = self;
        write!(f, "{user}@{host}, pid {pid}, run {run}")
    }
}
