//! The identity of a process: its id, its start and its PID namespace. The kernel reuses ids, and
//! each PID namespace has its own.

use std::sync::LazyLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Identifies a process, also after its id was given to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// Its start. On Linux in clock ticks since boot, which a change of the clock does not
    /// affect; elsewhere in seconds since the Unix epoch.
    pub started: u64,
    /// None in a file of an earlier version.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// The kernel and the PID namespace in which a process id is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The id of the boot: `/proc/sys/kernel/random/boot_id` (random(4)); on
    /// macOS `kern.bootsessionuuid`.
    pub boot: String,
    /// The inode of `/proc/self/ns/pid` (pid_namespaces(7)); 0 where there are none.
    pub pid_namespace: u64,
    /// The host's name, for messages. It distinguishes another host from another boot.
    pub host: String,
}

impl Place {
    /// Returns the place of this process.
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

    /// Returns why ids of this place are not valid `here`; none if they are.
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

/// Whether a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Alive,
    /// It has exited.
    Dead,
    /// It is unknown from here. The reason.
    Unknown(String),
}

impl ProcessIdentity {
    /// Returns the process that has this id now; none if there is none, or a zombie.
    pub fn of(pid: u32) -> Option<Self> {
        look(pid).map(|seen| ProcessIdentity {
            pid,
            started: seen.started,
            place: Place::own().cloned(),
        })
    }

    /// Returns this process.
    pub fn own() -> Self {
        let pid = std::process::id();
        ProcessIdentity::of(pid).unwrap_or_else(|| ProcessIdentity::not_started(pid))
    }

    /// Returns an identity that no process has: one with this id starts after the boot.
    pub fn not_started(pid: u32) -> Self {
        ProcessIdentity {
            pid,
            started: 0,
            place: Place::own().cloned(),
        }
    }

    /// Returns whether it runs, as far as this process can find out.
    pub fn life(&self) -> Life {
        let Some(here) = Place::own() else {
            return Life::Unknown("/proc is not that of this PID namespace".into());
        };
        let is_here = look(self.pid).is_some_and(|seen| seen.started == self.started);
        let elsewhere = match &self.place {
            Some(there) => there.elsewhere(here),
            None if is_here => None,
            None => Some("an earlier version did not record its boot".into()),
        };
        match elsewhere {
            Some(why) => Life::Unknown(why),
            None if is_here => Life::Alive,
            None => Life::Dead,
        }
    }

    /// Whether it still runs here.
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

    /// Sends a signal if the process still runs here. Returns whether it was sent.
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

/// The state of a process that has not exited.
struct ProcessState {
    started: u64,
    is_stopped: bool,
}

#[cfg(target_os = "linux")]
fn look(pid: u32) -> Option<ProcessState> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is second, in parentheses, and may contain anything: count from its end.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    // proc_pid_stat(5): the state is field 3, the start field 22.
    let state = fields.next()?;
    if ["Z", "X"].contains(&state) {
        return None;
    }
    Some(ProcessState {
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
fn look(pid: u32) -> Option<ProcessState> {
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
    (!dead).then(|| ProcessState {
        started: process.start_time(),
        is_stopped: status == ProcessStatus::Stop,
    })
}

#[cfg(not(target_os = "linux"))]
fn boot() -> Option<String> {
    let mut sysctl = std::process::Command::new("/usr/sbin/sysctl");
    let output = sysctl.args(["-n", "kern.bootsessionuuid"]).output().ok()?;
    let id = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !id.is_empty()).then_some(id)
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
    fn a_process_of_another_place_is_unknown_and_gets_no_signal() {
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
    fn a_file_of_an_earlier_version_is_read_and_its_process_is_not_dead() {
        let own = ProcessIdentity::own();
        let old = |started| format!(r#"{{"pid":{},"started":{started}}}"#, own.pid);
        let read = |text: &str| serde_json::from_str::<ProcessIdentity>(text).unwrap();
        assert_eq!(read(&old(own.started)).life(), Life::Alive);
        let life = read(&old(1)).life();
        assert!(matches!(life, Life::Unknown(_)), "{life:?}");
        let again = read(&serde_json::to_string(&own).unwrap());
        assert_eq!(again, own);
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while ProcessIdentity::of(child.id()).is_some() {
            assert!(std::time::Instant::now() < deadline, "`true` does not exit");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
