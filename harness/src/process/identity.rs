//! A process told apart from a later one that was given the same number.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process id and when that process started: ids are used again, pairs are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// On Linux clock ticks since boot, which no clock that is set changes; elsewhere
    /// seconds since the Unix epoch, as the kernel wrote them down at the start.
    pub started: u64,
}

impl ProcessIdentity {
    /// The identity of the process that has this id now, if one does and it is no zombie.
    pub fn of(pid: u32) -> Option<Self> {
        started(pid).map(|started| ProcessIdentity { pid, started })
    }

    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        ProcessIdentity::of(pid).unwrap_or(ProcessIdentity { pid, started: 0 })
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        ProcessIdentity::of(self.pid) == Some(*self)
    }

    /// Sends a signal if this very process still runs; says whether it did.
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

/// When the process of this id started, if it lives.
#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name comes second, in parentheses, and may hold anything: count from its end.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    // proc_pid_stat(5): the state is field 3, the start field 22.
    let state = fields.next()?;
    let dead = ["Z", "X"].contains(&state);
    fields.nth(18).filter(|_| !dead)?.parse().ok()
}

/// When the process of this id started, if it lives.
#[cfg(not(target_os = "linux"))]
fn started(pid: u32) -> Option<u64> {
    use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};
    let id = sysinfo::Pid::from_u32(pid);
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[id]),
        true,
        ProcessRefreshKind::nothing(),
    );
    let process = system.process(id)?;
    let dead = matches!(
        process.status(),
        ProcessStatus::Zombie | ProcessStatus::Dead
    );
    (!dead).then(|| process.start_time())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        assert!(ProcessIdentity::own().is_alive());
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let mut stale = ProcessIdentity::own();
        stale.started -= 1;
        assert!(!stale.is_alive());
        assert!(!stale.signal(Signal::SIGCONT));
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
