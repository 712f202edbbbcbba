//! What can be seen and done on this machine from outside of the harness.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Looks until `look` finds something. Panics, with what was seen last, when time is up.
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    const PAUSE: Duration = Duration::from_millis(5);
    let end = Instant::now() + deadline;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > end => {
                panic!("{what}: not within {deadline:?}; last seen: {seen}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// A process of this machine, as `/proc` shows it.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    /// Its arguments, separated by spaces.
    pub command: String,
    /// Its environment, one line a variable; empty where it is not for us to read.
    pub environment: String,
    /// Where it works.
    pub directory: String,
    pub parent: u32,
    /// Whether it has ended and was not waited for yet.
    zombie: bool,
}

impl Process {
    /// The process that has this id now.
    pub fn of(pid: u32) -> Option<Process> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let list = |file: &str, separator: &str| {
            let bytes = fs::read(folder.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', separator)
        };
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // After the name, which may hold anything: state, parent, ...
        let mut after_name = stat.rsplit_once(") ")?.1.split(' ');
        let state = after_name.next()?;
        Some(Process {
            pid,
            command: list("cmdline", " "),
            environment: list("environ", "\n"),
            directory: fs::read_link(folder.join("cwd"))
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            zombie: state == "Z",
            parent: after_name.next()?.parse().ok()?,
        })
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        !self.zombie
    }

    pub fn signal(&self, signal: Signal) {
        // One that is gone needs none.
        let _ = kill(Pid::from_raw(i32::try_from(self.pid).unwrap()), signal);
    }
}

/// Every process but this one.
pub fn processes() -> Vec<Process> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter_map(Process::of)
        .filter(Process::runs)
        .collect()
}

/// The System V shared memory segments, as `key id`.
pub fn shared_memory() -> Vec<String> {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            Some(format!("{} {}", columns.next()?, columns.next()?))
        })
        .collect()
}

/// A socket that accepts and never answers, as an engine that was stopped.
pub struct MuteEngine {
    _listener: std::os::unix::net::UnixListener,
    folder: tempfile::TempDir,
}

impl MuteEngine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        MuteEngine { _listener, folder }
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }
}
