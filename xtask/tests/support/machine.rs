//! Processes, shared memory and engines of this machine, seen from outside the harness.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use machine::engine::{Engine, TIMEOUT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::SECONDS;

pub async fn engine() -> Engine {
    let engine = Engine::find(TIMEOUT).await;
    engine.expect("these tests need a container engine; `cargo xtask test` leaves them out without")
}

/// Repeats `look` until it succeeds. Panics with its last error when `deadline` has passed.
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
            Err(last) if Instant::now() > end => {
                panic!("{what}: not within {deadline:?}; last seen: {last}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// A process of this machine, as `/proc` shows it.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    /// Its arguments, separated by spaces.
    pub command: String,
    /// Its environment, one line a variable; empty if we may not read it.
    pub environment: String,
    /// Its working directory.
    pub directory: String,
    pub parent: u32,
    zombie: bool,
}

impl Process {
    /// Returns the process that has this id now.
    pub fn of(pid: u32) -> Option<Process> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let list = |file: &str, separator: &str| {
            let bytes = fs::read(folder.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', separator)
        };
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // After the name, which may contain anything: state, parent, ...
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

    /// Returns whether it has not exited.
    pub fn runs(&self) -> bool {
        !self.zombie
    }

    /// Waits for its exit.
    pub fn exits(&self) {
        eventually(
            &format!("{} exits", self.command),
            SECONDS,
            || match Process::of(self.pid).filter(Process::runs) {
                Some(process) => Err(process.command),
                None => Ok(()),
            },
        );
    }

    pub fn signal(&self, signal: Signal) {
        // It may have exited.
        let _ = kill(Pid::from_raw(i32::try_from(self.pid).unwrap()), signal);
    }
}

/// Returns every process except this one.
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

/// Checks that no process shows a secret in its command line.
pub fn no_command_line_shows<'a>(secrets: impl IntoIterator<Item = &'a String> + Clone) {
    for process in processes() {
        let shows_one = secrets
            .clone()
            .into_iter()
            .any(|secret| process.command.contains(secret));
        assert!(!shows_one, "{}", process.command);
    }
}

/// Returns the System V shared memory segments, as `key id`.
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

/// A socket that accepts connections and never answers, like a stopped engine.
pub struct MuteEngine {
    _listener: UnixListener,
    folder: tempfile::TempDir,
}

impl MuteEngine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let _listener = UnixListener::bind(path).unwrap();
        MuteEngine { _listener, folder }
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }
}

/// A proxy in front of the engine's socket, which can stop forwarding.
pub struct EngineProxy {
    stopped: Arc<AtomicBool>,
    folder: tempfile::TempDir,
}

impl EngineProxy {
    /// `host` as in `DOCKER_HOST`: a socket of this machine.
    pub fn new(host: &str) -> Self {
        let socket = host.strip_prefix("unix://");
        let engine = PathBuf::from(socket.unwrap_or_else(|| {
            panic!(
                "these tests put a proxy in front of the engine's Unix socket, and the engine is \
                 at {host}; `cargo xtask test` leaves them out there"
            )
        }));
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        // The threads end with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(engine) = UnixStream::connect(&engine) else {
                    continue;
                };
                for (from, to) in [(&client, &engine), (&engine, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let stop = Arc::clone(&stop);
                    thread::spawn(move || forward(from, to, &stop));
                }
            }
        });
        EngineProxy { stopped, folder }
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub fn resume(&self) {
        self.stopped.store(false, Ordering::SeqCst);
    }
}

fn forward(mut from: UnixStream, mut to: UnixStream, stopped: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        while stopped.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
