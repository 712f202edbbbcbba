//! The harness's own memory: the most that a command and its supervisor held.
//!
//! Linux alone: the kernel keeps each process's high-water mark as `VmHWM` in
//! `/proc/<pid>/status` (proc_pid_status(5)). Elsewhere nothing is measured.

use std::time::Duration;

use harness::environment::EnvironmentFolder;

/// The mark only rises, so the last look is the highest; what a process grows in its very
/// last milliseconds is missed.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Follows a command and the supervisor of the environment it stands up.
pub struct Peak {
    command: u32,
    folder: EnvironmentFolder,
    supervisor: Option<u32>,
    command_kib: Option<u64>,
    supervisor_kib: Option<u64>,
}

impl Peak {
    /// Of the command that runs as process `command` and stands up what is in `folder`.
    pub fn of(command: u32, folder: EnvironmentFolder) -> Self {
        Peak {
            command,
            folder,
            supervisor: None,
            command_kib: None,
            supervisor_kib: None,
        }
    }

    /// Looks again and again until `done` is.
    pub async fn during<T>(&mut self, done: impl Future<Output = T>) -> T {
        let mut done = std::pin::pin!(done);
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                value = &mut done => return value,
                _ = ticks.tick() => self.look(),
            }
        }
    }

    /// The two peaks together, MiB: at least what both held at once. `None` unless both
    /// were seen.
    pub fn mebibytes(&self) -> Option<f64> {
        let kib = self.command_kib? + self.supervisor_kib?;
        Some(kib as f64 / 1024.0)
    }

    fn look(&mut self) {
        self.command_kib = high_water_kib(self.command).or(self.command_kib);
        if self.supervisor.is_none() {
            // Who took the name last may be the supervisor of the round before.
            let holder = self.folder.holder();
            let alive = holder.filter(|holder| holder.supervisor.is_alive());
            self.supervisor = alive.map(|holder| holder.supervisor.pid);
        }
        let seen = self.supervisor.and_then(high_water_kib);
        self.supervisor_kib = seen.or(self.supervisor_kib);
    }
}

/// What the process `pid` holds now, MiB; `None` where that cannot be told.
pub fn resident_mebibytes(pid: u32) -> Option<f64> {
    let kib = of_process(pid, "VmRSS:")?;
    Some(kib as f64 / 1024.0)
}

/// The most that the process `pid` held so far, KiB; `None` where that cannot be told.
pub(super) fn high_water_kib(pid: u32) -> Option<u64> {
    of_process(pid, "VmHWM:")
}

fn of_process(pid: u32, label: &str) -> Option<u64> {
    labelled(
        &std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        label,
    )
}

/// `VmHWM:    41388 kB`, where kB means KiB. A process that has ended has no such line.
fn labelled(status: &str, label: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(label))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_as_the_kernel_writes_it() {
        let status =
            "Name:\txtask\nVmPeak:\t  812345 kB\nVmHWM:\t   41388 kB\nVmRSS:\t   40012 kB\n";
        assert_eq!(labelled(status, "VmHWM:"), Some(41_388));
        assert_eq!(labelled(status, "VmRSS:"), Some(40_012));
        assert_eq!(
            labelled("Name:\txtask\nState:\tZ (zombie)\n", "VmHWM:"),
            None
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_mark() {
        let kib = high_water_kib(std::process::id()).unwrap();
        assert!(kib > 100, "{kib} KiB");
    }
}
