//! The harness's own memory: the peak of a command and its supervisor.
//!
//! Only on Linux, where the kernel keeps each process's peak as `VmHWM` in `/proc/<pid>/status`
//! (proc_pid_status(5)).

use std::time::Duration;

use environments::environment::EnvironmentFolder;

/// The peak never falls, so that the last read is the highest; growth in a process's last
/// milliseconds is missed.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// Follows a command and the supervisor of the environment that it starts.
pub struct Peak {
    command: u32,
    folder: EnvironmentFolder,
    supervisor: Option<u32>,
    command_kib: Option<u64>,
    supervisor_kib: Option<u64>,
}

impl Peak {
    /// `command` is the process id of the command, which starts the environment in `folder`.
    pub fn of(command: u32, folder: EnvironmentFolder) -> Self {
        Peak {
            command,
            folder,
            supervisor: None,
            command_kib: None,
            supervisor_kib: None,
        }
    }

    /// Reads the peaks again and again until `done` ends.
    pub async fn during<T>(&mut self, done: impl Future<Output = T>) -> T {
        let mut done = std::pin::pin!(done);
        let mut ticks = tokio::time::interval(POLL_EVERY);
        loop {
            tokio::select! {
                value = &mut done => return value,
                _ = ticks.tick() => self.read(),
            }
        }
    }

    /// The sum of both peaks, in MiB: at least what both held at once. `None` unless both were
    /// read.
    pub fn mebibytes(&self) -> Option<f64> {
        let kib = self.command_kib? + self.supervisor_kib?;
        Some(kib as f64 / 1024.0)
    }

    fn read(&mut self) {
        self.command_kib = high_water_kib(self.command).or(self.command_kib);
        if self.supervisor.is_none() {
            // The last holder of the name may be the supervisor of the previous round.
            let holder = self.folder.holder();
            let alive = holder.filter(|holder| holder.supervisor.is_alive());
            self.supervisor = alive.map(|holder| holder.supervisor.pid);
        }
        let supervisor_kib = self.supervisor.and_then(high_water_kib);
        self.supervisor_kib = supervisor_kib.or(self.supervisor_kib);
    }
}

/// Polls the peak memory of the process `pid` until `done` completes. Returns the last value, in
/// MiB; `None` if it cannot be read.
pub async fn peak_during<T>(pid: u32, done: impl Future<Output = T>) -> (T, Option<f64>) {
    let mut done = std::pin::pin!(done);
    let mut ticks = tokio::time::interval(POLL_EVERY);
    let mut peak = None;
    loop {
        tokio::select! {
            value = &mut done => return (value, peak.map(|kib| kib as f64 / 1024.0)),
            _ = ticks.tick() => peak = high_water_kib(pid).or(peak),
        }
    }
}

/// The memory of the process `pid` now, in MiB; `None` if it cannot be read.
pub fn resident_mebibytes(pid: u32) -> Option<f64> {
    let kib = of_process(pid, "VmRSS:")?;
    Some(kib as f64 / 1024.0)
}

/// The peak of the process `pid` so far, in KiB; `None` if it cannot be read.
pub(super) fn high_water_kib(pid: u32) -> Option<u64> {
    of_process(pid, "VmHWM:")
}

fn of_process(pid: u32, label: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    labelled(&status, label)
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
        let zombie = "Name:\txtask\nState:\tZ (zombie)\n";
        assert_eq!(labelled(zombie, "VmHWM:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_mark() {
        let kib = high_water_kib(std::process::id()).unwrap();
        assert!(kib > 100, "{kib} KiB");
    }
}
