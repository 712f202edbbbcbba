//! The capabilities that this machine grants, and those that a process requests.

use std::{fs, io};

use serde_json::Value;

/// By number, as in `linux/capability.h`. The kernel only adds to this list.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The sets of a process's capabilities in the OCI runtime specification.
const SETS: [&str; 5] = [
    "bounding",
    "effective",
    "inheritable",
    "permitted",
    "ambient",
];

/// A bounding set, as a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds(u64);

impl Bounds {
    /// Returns the bounding set of this process, which its children inherit.
    ///
    /// # Errors
    /// If `/proc/self/status` cannot be read or has no bounding set.
    pub fn of_this_process() -> io::Result<Bounds> {
        let status = fs::read_to_string("/proc/self/status")?;
        Bounds::in_status(&status)
            .ok_or_else(|| io::Error::other("/proc/self/status names no bounding set"))
    }

    fn in_status(status: &str) -> Option<Bounds> {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok().map(Bounds)
    }

    /// A capability that is not in `NAMES` is left to the runtime.
    fn grant(self, name: &str) -> bool {
        let number = NAMES.iter().position(|known| *known == name);
        number.is_none_or(|number| self.0 & (1 << number) != 0)
    }

    /// Removes from `process` what is not granted. Returns whether it removed anything.
    pub fn narrow(self, process: &mut Value) -> bool {
        let mut narrowed = false;
        for set in SETS {
            let capabilities = process.get_mut("capabilities");
            let Some(Value::Array(names)) = capabilities.and_then(|all| all.get_mut(set)) else {
                continue;
            };
            let before = names.len();
            names.retain(|name| name.as_str().is_none_or(|name| self.grant(name)));
            narrowed |= names.len() != before;
        }
        narrowed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const WITHOUT_SYS_RESOURCE: Bounds = Bounds(0x1ff_feff_ffff);

    #[test]
    fn the_bounding_set_is_read_from_the_status() {
        let status = "Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t000001fffeffffff\n";
        assert_eq!(Bounds::in_status(status), Some(WITHOUT_SYS_RESOURCE));
        assert_eq!(Bounds::in_status("Name:\tx\n"), None);
    }

    #[test]
    fn a_missing_capability_is_removed_from_every_set() {
        let mut process = json!({
            "args": ["sh"],
            "capabilities": {
                "bounding": ["CAP_KILL", "CAP_SYS_RESOURCE"],
                "effective": ["CAP_SYS_RESOURCE", "CAP_OF_TOMORROW"],
                "permitted": ["CAP_KILL"],
            },
        });
        assert!(WITHOUT_SYS_RESOURCE.narrow(&mut process));
        let remaining = json!({
            "bounding": ["CAP_KILL"],
            "effective": ["CAP_OF_TOMORROW"],
            "permitted": ["CAP_KILL"],
        });
        assert_eq!(process, json!({"args": ["sh"], "capabilities": remaining}));
        assert!(!WITHOUT_SYS_RESOURCE.narrow(&mut process), "twice");
    }

    #[test]
    fn a_process_without_capabilities_is_not_changed() {
        for mut process in [json!({}), json!({"capabilities": null}), json!(null)] {
            let before = process.clone();
            assert!(!WITHOUT_SYS_RESOURCE.narrow(&mut process));
            assert_eq!(process, before);
        }
    }

    proptest! {
        #[test]
        fn exactly_the_granted_capabilities_remain(
            mask: u64, requested in proptest::sample::subsequence(NAMES.to_vec(), 0..=41)
        ) {
            let bounds = Bounds(mask);
            let mut process = json!({"capabilities": {"bounding": requested.clone()}});
            bounds.narrow(&mut process);
            let granted = requested.into_iter().filter(|name| bounds.grant(name));
            let granted: Vec<&str> = granted.collect();
            prop_assert_eq!(&process["capabilities"]["bounding"], &json!(granted));
        }
    }
}
