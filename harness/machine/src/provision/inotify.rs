//! The kernel's limits on inotify, which all nodes of all kind clusters share.
//!
//! kind recommends these numbers (kind.sigs.k8s.io, known issues, "Pod errors due to too many open
//! files").

use std::fs;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Kind, Machine, Privilege, ProvisionStep, as_root};

const FOLDER: &str = "/proc/sys/fs/inotify";

/// One limit below `fs.inotify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name.
    pub name: &'static str,
    /// The lowest value that is enough.
    pub least: u64,
}

/// The limits that matter.
pub const LIMITS: [Limit; 2] = [
    Limit {
        name: "max_user_instances",
        least: 512,
    },
    Limit {
        name: "max_user_watches",
        least: 524_288,
    },
];

impl Limit {
    /// Returns its current value; none if the system has no such limit.
    pub fn now(self) -> Option<u64> {
        let text = fs::read_to_string(Path::new(FOLDER).join(self.name)).ok()?;
        text.trim().parse().ok()
    }
}

/// Returns the limits that are too low and can be written. In a container they are read-only.
pub(super) fn to_raise() -> Vec<Limit> {
    let read_only = |fs: nix::sys::statvfs::Statvfs| fs.flags().contains(FsFlags::ST_RDONLY);
    if statvfs(FOLDER).map_or(true, read_only) {
        return Vec::new();
    }
    let is_low = |limit: &Limit| limit.now().is_some_and(|now| now < limit.least);
    LIMITS.into_iter().filter(is_low).collect()
}

/// Raises them if this user may. Only clusters of several nodes need it.
pub(super) fn step(machine: &Machine) -> Option<ProvisionStep> {
    if machine.privilege == Privilege::Nobody {
        return None;
    }
    let each = |text: fn(&Limit) -> String| machine.inotify.iter().map(text).collect::<Vec<_>>();
    let settings = each(|limit| format!("fs.inotify.{}={}", limit.name, limit.least));
    let mut sysctl = vec!["sysctl", "--write"];
    sysctl.extend(settings.iter().map(String::as_str));
    // A minimal Debian has no `sysctl`.
    let writes = each(|limit| format!("echo {} > {FOLDER}/{}", limit.least, limit.name));
    let script = writes.join(" && ");
    Some(ProvisionStep {
        what: "raise the limits on inotify until the next boot: clusters of several nodes need it"
            .to_owned(),
        commands: vec![
            as_root(machine.privilege, &sysctl),
            as_root(machine.privilege, &["sh", "-c", &script]),
        ],
        kind: Kind::Helpful,
    })
}
