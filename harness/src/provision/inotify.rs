//! The kernel's limits on inotify, which all nodes of all kind clusters share.
//!
//! The numbers are kind's own advice (kind.sigs.k8s.io, known issues, "Pod errors due to
//! too many open files").

use std::fs;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::machine::{Machine, Privilege};
use super::{Kind, Step, as_root};

const FOLDER: &str = "/proc/sys/fs/inotify";

/// One limit, by its name below `fs.inotify`, and what it should be at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name.
    pub name: &'static str,
    /// The least that is enough.
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
    /// What it is now; none where the system has no such limit.
    pub fn now(self) -> Option<u64> {
        let text = fs::read_to_string(Path::new(FOLDER).join(self.name)).ok()?;
        text.trim().parse().ok()
    }
}

/// The limits that are too low, where they can be written: a container mostly may not.
pub(super) fn to_raise() -> Vec<Limit> {
    let read_only = |fs: nix::sys::statvfs::Statvfs| fs.flags().contains(FsFlags::ST_RDONLY);
    if statvfs(FOLDER).map_or(true, read_only) {
        return Vec::new();
    }
    let is_low = |limit: &Limit| limit.now().is_some_and(|now| now < limit.least);
    LIMITS.into_iter().filter(is_low).collect()
}

/// Raises them, if anybody here may: nothing but clusters of several nodes needs it.
pub(super) fn step(machine: &Machine) -> Option<Step> {
    if machine.privilege == Privilege::Nobody {
        return None;
    }
    let settings = machine
        .inotify
        .iter()
        .map(|limit| format!("fs.inotify.{}={}", limit.name, limit.least));
    let settings: Vec<String> = settings.collect();
    let words: Vec<&str> = ["sysctl", "--write"]
        .into_iter()
        .chain(settings.iter().map(String::as_str))
        .collect();
    // `sysctl` is in a package that a minimal Debian does without.
    let writes = machine
        .inotify
        .iter()
        .map(|limit| format!("echo {} > {FOLDER}/{}", limit.least, limit.name));
    let script = writes.collect::<Vec<_>>().join(" && ");
    Some(Step {
        what: "raise the limits on inotify until the next boot: clusters of several nodes need it"
            .to_owned(),
        commands: vec![
            as_root(machine.privilege, &words),
            as_root(machine.privilege, &["sh", "-c", &script]),
        ],
        kind: Kind::Helpful,
    })
}
