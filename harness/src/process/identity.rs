//! A process told apart from a later one that was given the same number, and from one of
//! the same number on another kernel or in another PID namespace.

use std::sync::LazyLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process id, when that process started, and where both count: ids are used again, and
/// each PID namespace has its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// On Linux clock ticks since boot, which no clock that is set changes; elsewhere
    /// seconds since the Unix epoch, as the kernel wrote them down at the start.
    pub started: u64,
    /// None where an earlier version wrote it down.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Where process ids count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which kernel, since which boot: `/proc/sys/kernel/random/boot_id` (random(4)); on
    /// macOS `kern.bootsessionuuid`.
    pub boot: String,
    /// The inode of `/proc/self/ns/pid` (pid_namespaces(7)); 0 where there are none.
    pub pid_namespace: u64,
    /// The host's name, for people, and to tell another boot from another host.
    pub host: String,
}

impl Place {
    /// This process's.
    pub fn own() -> Option<&'static Place> {
        static OWN: LazyLock<Option<Place>> = LazyLock::new(|| {
            Some(Place {
                boot: boot()?,
                pid_namespace: pid_namespace()?,
                host: sysinfo::System::host_name().unwrap_or_default(),
            })
        });
        OWN.as_ref()
    }

    /// Why ids of this place mean nothing in another, where they do not.
    fn elsewhere(&self, here: &Place) -> Option<String> {
        let Place { boot, host, .. } = self;
        if *boot != here.boot && *host == here.host {
            let why = "it ran before a restart of this host, or on another of the same name";
            Some(why.to_owned())
        } else if *boot != here.boot {
            Some(format!("it is on host {host}"))
        } else if self.pid_namespace != here.pid_namespace {
            Some(format!("it is in another PID namespace, on host {host}"))
        } else {
            None
        }
    }
}

/// What can be told of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Alive,
    /// It has ended, for certain.
    Dead,
    /// It cannot be judged from here: why.
    Unknown(String),
}

impl ProcessIdentity {
    /// The identity of the process that has this id now, if one does and it is no zombie.
    pub fn of(pid: u32) -> Option<Self> {
        look(pid).map(|seen| ProcessIdentity {
            pid,
            started: seen.started,
            place: Place::own().cloned(),
        })
    }

    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        ProcessIdentity::of(pid).unwrap_or_else(|| ProcessIdentity::not_started(pid))
    }

    /// What no process is that runs here: one that has this id started after the boot.
    pub fn not_started(pid: u32) -> Self {
        ProcessIdentity {
            pid,
            started: 0,
            place: Place::own().cloned(),
        }
    }

    /// What this process can tell of it.
    pub fn life(&self) -> Life {
        let Some(here) = Place::own() else {
            return Life::Unknown("/proc is not that of this PID namespace".into());
        };
        let is_here = look(self.pid).is_some_and(|seen| seen.started == self.started);
        let elsewhere = match &self.place {
            Some(there) => there.elsewhere(here),
            None if is_here => None,
            None => Some("an earlier version did not say in which boot it ran".into()),
        };
        match elsewhere {
            Some(why) => Life::Unknown(why),
            None if is_here => Life::Alive,
            None => Life::Dead,
        }
    }

    /// Whether this very process still runs here.
    pub fn is_alive(&self) -> bool {
        self.life() == Life::Alive
    }

    /// Whether it ran on another kernel, or on this one before a restart.
    pub fn is_of_another_boot(&self) -> bool {
        let boots = self.place.as_ref().zip(Place::own());
        boots.is_some_and(|(there, here)| there.boot != here.boot)
    }

    /// Whether it runs here, and was stopped (SIGSTOP).
    pub fn is_stopped(&self) -> bool {
        self.is_alive() && look(self.pid).is_some_and(|seen| seen.is_stopped)
    }

    /// Sends a signal if this very process still runs here; says whether it did.
    pub fn signal(&self, signal: Signal) -> bool {
        let Ok(pid) = i32::try_from(self.pid) else {
            return false;
        };
        self.is_alive() && kill(Pid::from_raw(pid), signal).is_ok()
    }
}

impl std::fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// What the system says of a process that has not ended.
struct Seen {
    started: u64,
    is_stopped: bool,
}

#[cfg(target_os = "linux")]
fn look(pid: u32) -> Option<Seen> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name comes second, in parentheses, and may hold anything: count from its end.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    // proc_pid_stat(5): the state is field 3, the start field 22.
    let state = fields.next()?;
    if ["Z", "X"].contains(&state) {
        return None;
    }
    Some(Seen {
        started: fields.nth(18)?.parse().ok()?,
        is_stopped: state.eq_ignore_ascii_case("t"),
    })
}

#[cfg(target_os = "linux")]
fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(target_os = "linux")]
fn pid_namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    // Another namespace's /proc may be mounted here: its numbers are not ours.
    let own = std::fs::read_link("/proc/self").ok()?;
    if own.to_str() != Some(&std::process::id().to_string()) {
        return None;
    }
    Some(std::fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

#[cfg(not(target_os = "linux"))]
fn look(pid: u32) -> Option<Seen> {
    use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};
    let id = sysinfo::Pid::from_u32(pid);
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[id]),
        true,
        ProcessRefreshKind::nothing(),
    );
    let process = system.process(id)?;
    let status = process.status();
    let dead = matches!(status, ProcessStatus::Zombie | ProcessStatus::Dead);
    (!dead).then(|| Seen {
        started: process.start_time(),
        is_stopped: status == ProcessStatus::Stop,
    })
}

#[cfg(not(target_os = "linux"))]
fn boot() -> Option<String> {
    let mut sysctl = std::process::Command::new("/usr/sbin/sysctl");
    let told = sysctl.args(["-n", "kern.bootsessionuuid"]).output().ok()?;
    let id = String::from_utf8(told.stdout).ok()?.trim().to_owned();
    (told.status.success() && !id.is_empty()).then_some(id)
}

#[cfg(not(target_os = "linux"))]
fn pid_namespace() -> Option<u64> {
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere(change: impl FnOnce(&mut Place)) -> ProcessIdentity {
        let mut identity = ProcessIdentity::own();
        change(identity.place.as_mut().unwrap());
        identity
    }

    #[test]
    fn a_process_knows_itself() {
        assert!(ProcessIdentity::own().is_alive());
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let mut stale = ProcessIdentity::own();
        stale.started -= 1;
        assert_eq!(stale.life(), Life::Dead);
        assert!(!stale.signal(Signal::SIGCONT));
    }

    #[test]
    fn a_process_of_another_place_is_neither_judged_nor_signalled() {
        let another_namespace = elsewhere(|place| place.pid_namespace += 1);
        let another_boot = elsewhere(|place| place.boot = "another".into());
        let another_host = elsewhere(|place| {
            place.boot = "another".into();
            place.host = "laptop".into();
        });
        for (identity, words) in [
            (another_namespace, "another PID namespace"),
            (another_boot, "before a restart of this host"),
            (another_host, "on host laptop"),
        ] {
            let Life::Unknown(why) = identity.life() else {
                panic!("{words}: {:?}", identity.life());
            };
            assert!(why.contains(words), "{why}");
            assert!(!identity.signal(Signal::SIGCONT));
        }
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read_and_dead_for_nobody() {
        let own = ProcessIdentity::own();
        let old = |started| format!(r#"{{"pid":{},"started":{started}}}"#, own.pid);
        let read = |text: &str| serde_json::from_str::<ProcessIdentity>(text).unwrap();
        assert_eq!(read(&old(own.started)).life(), Life::Alive);
        let gone = read(&old(1)).life();
        assert!(matches!(gone, Life::Unknown(_)), "{gone:?}");
        let again = read(&serde_json::to_string(&own).unwrap());
        assert_eq!(again, own);
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while ProcessIdentity::of(child.id()).is_some() {
            assert!(std::time::Instant::now() < deadline, "`true` does not end");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
