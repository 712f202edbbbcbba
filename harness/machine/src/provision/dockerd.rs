//! Starts and stops a dockerd where no service manager does.
//!
//! It needs no flag (tested with Debian 12's Engine 20.10 on cgroup v1, as a root without
//! CAP_SYS_RESOURCE). It sets up iptables, `ip_forward` and its own containerd. Its pid file
//! (`/var/run/docker.pid`) prevents that two daemons share one data directory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use crate::engine::{Candidate, Engine, Origin};
use base::file_lock;
use base::process::identity::{Life, ProcessIdentity};
use base::wait::{self, Observation};

/// From its start to its first answer; about 1 s if it restores no containers.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// dockerd gives its containers 15 s to stop, then exits.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Between two checks of whether it has started or stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many lines of its log an error has.
const LAST_LINES: usize = 12;

/// dockerd did not start or stop.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum EngineError {
    /// It exited before it answered.
    #[error("dockerd exited on start ({how}); the end of {}:\n{last_lines}", .log.display())]
    #[diagnostic(
        code(provision::dockerd_ended),
        help("the lines above name the cause; without an engine `--target local` still works")
    )]
    Ended {
        /// Its exit status.
        how: String,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        last_lines: String,
    },
    /// It runs but does not answer.
    #[error("dockerd did not answer within {} s; the end of {}:\n{last_lines}",
        START_DEADLINE.as_secs(), .log.display())]
    #[diagnostic(
        code(provision::dockerd_silent),
        help("it was stopped again; read its whole log")
    )]
    Silent {
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        last_lines: String,
    },
    /// It did not stop after SIGTERM.
    #[error("dockerd (pid {pid}) still runs {} s after SIGTERM", STOP_DEADLINE.as_secs())]
    #[diagnostic(code(provision::dockerd_runs_on), help("kill -KILL {pid}"))]
    RunsOn {
        /// Its process id.
        pid: u32,
    },
    /// It is unknown whether it runs.
    #[error("it is unknown whether dockerd (pid {pid}) still runs: {why}")]
    #[diagnostic(
        code(provision::dockerd_not_judged),
        help("stop it where it was started; if it has exited, remove {}", .record.display())
    )]
    Undecided {
        /// Its process id, in its own PID namespace.
        pid: u32,
        /// The cause.
        why: String,
        /// The file with its record.
        record: PathBuf,
    },
    /// An operation on a file or process failed.
    #[error("cannot {what}: {source}")]
    #[diagnostic(code(provision::dockerd_io))]
    Io {
        /// The operation.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// The result of [`stop_engine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The recorded daemon has stopped.
    Ended,
    /// No daemon is recorded, or it had exited before.
    NotRunning,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stopped::Ended => "the engine is stopped",
            Stopped::NotRunning => "no engine of ours was running",
        })
    }
}

/// Returns the command that starts it. `setsid` starts a new session: neither Ctrl-C nor a closed
/// terminal stops it.
pub(super) fn command() -> Vec<String> {
    vec!["setsid".to_owned(), "dockerd".to_owned()]
}

/// Starts dockerd and waits until it answers. Returns immediately if one answers already.
pub(super) async fn start(state_dir: &Path) -> Result<(), EngineError> {
    fs::create_dir_all(state_dir).map_err(io("make the state directory"))?;
    // Another process holds the lock while it starts dockerd.
    let lock = state_dir.join("dockerd.lock");
    let _lock = file_lock::lock(&lock, 2 * START_DEADLINE, &|_| ())
        .await
        .map_err(|error| io("lock the state directory")(error.into()))?;
    if answers().await {
        return Ok(());
    }
    let log = state_dir.join("dockerd.log");
    let mut child = spawn(&log)?;
    // Immediately: after an interruption the daemon is on record.
    write_record(state_dir, &child)?;
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        if let Some(status) = child.try_wait().map_err(io("read the state of dockerd"))? {
            remove_record(state_dir)?;
            return Err(EngineError::Ended {
                how: status.to_string(),
                last_lines: end_of(&log),
                log,
            });
        }
        if answers().await {
            return Ok(());
        }
        if Instant::now() > deadline {
            child.kill().await.map_err(io("stop dockerd"))?;
            remove_record(state_dir)?;
            return Err(EngineError::Silent {
                last_lines: end_of(&log),
                log,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Stops the dockerd that [`super::ProvisionPlan::apply`] started with this state directory, and no other.
///
/// # Errors
/// [`EngineError::RunsOn`] if it does not stop.
pub async fn stop_engine(state_dir: &Path) -> Result<Stopped, EngineError> {
    let text = match fs::read_to_string(record_file(state_dir)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Stopped::NotRunning);
        }
        Err(error) => return Err(io("read the record of dockerd")(error)),
    };
    // An unreadable record is kept: it is the only trace of a daemon.
    let ours: ProcessIdentity = serde_json::from_str(&text).map_err(|error| {
        let what = format!("read {}", record_file(state_dir).display());
        io(&what)(error.into())
    })?;
    let outcome = match ours.life() {
        Life::Alive => stop(&ours).await?,
        Life::Dead => Stopped::NotRunning,
        Life::Unknown(why) => {
            return Err(EngineError::Undecided {
                pid: ours.pid,
                why,
                record: record_file(state_dir),
            });
        }
    };
    remove_record(state_dir)?;
    Ok(outcome)
}

async fn stop(daemon: &ProcessIdentity) -> Result<Stopped, EngineError> {
    daemon.signal(Signal::SIGTERM);
    // A process that SIGSTOP has stopped receives SIGTERM only after SIGCONT.
    daemon.signal(Signal::SIGCONT);
    let ended = wait::until(
        "dockerd stops",
        STOP_DEADLINE,
        LOOK_EVERY,
        async || match daemon.is_alive() {
            false => Observation::Ready(()),
            true => Observation::NotYet("it runs".into()),
        },
    );
    match ended.await {
        Ok(()) => Ok(Stopped::Ended),
        Err(_) => Err(EngineError::RunsOn { pid: daemon.pid }),
    }
}

fn spawn(log: &Path) -> Result<Child, EngineError> {
    let file = File::options().create(true).append(true).open(log);
    let file = file.map_err(io("open dockerd's log"))?;
    let errors = file.try_clone().map_err(io("open dockerd's log"))?;
    let argv = command();
    Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(io("start dockerd"))
}

/// Checks dockerd's own socket alone, and ignores `DOCKER_HOST`.
async fn answers() -> bool {
    let candidate = Candidate::plain("unix:///var/run/docker.sock", Origin::SystemSocket);
    Engine::among(vec![candidate], Duration::from_secs(1))
        .await
        .is_ok()
}

fn write_record(state_dir: &Path, child: &Child) -> Result<(), EngineError> {
    // If it has exited already, `start` reports that.
    let Some(daemon) = child.id().and_then(ProcessIdentity::of) else {
        return Ok(());
    };
    let text = serde_json::json!(daemon).to_string();
    let written = || -> std::io::Result<()> {
        let mut fresh = tempfile::NamedTempFile::new_in(state_dir)?;
        fresh.write_all(text.as_bytes())?;
        fresh.as_file().sync_all()?;
        fresh.persist(record_file(state_dir))?;
        Ok(())
    };
    written().map_err(io("record dockerd's pid"))
}

fn remove_record(state_dir: &Path) -> Result<(), EngineError> {
    match fs::remove_file(record_file(state_dir)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io("remove the record of dockerd")(error))
        }
        _ => Ok(()),
    }
}

fn record_file(state_dir: &Path) -> PathBuf {
    state_dir.join("dockerd.json")
}

fn end_of(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // Messages about connections hide the line that matters.
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("level=info"))
        .collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

fn io(what: &str) -> impl Fn(std::io::Error) -> EngineError + '_ {
    move |source| EngineError::Io {
        what: what.to_owned(),
        source,
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn start_sleep() -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").kill_on_drop(true).spawn().unwrap()
    }

    #[tokio::test]
    async fn another_process_is_not_stopped() {
        let state = TempDir::new().unwrap();
        let mut other = start_sleep();
        let stale = ProcessIdentity::not_started(other.id().unwrap());
        let record = serde_json::json!(stale).to_string();
        fs::write(record_file(state.path()), record).unwrap();
        let stopped = stop_engine(state.path()).await.unwrap();
        assert_eq!(stopped, Stopped::NotRunning);
        assert_eq!(other.try_wait().unwrap(), None, "it still runs");
        assert!(!record_file(state.path()).exists());
    }

    #[tokio::test]
    async fn a_daemon_of_another_pid_namespace_is_reported_and_its_record_kept() {
        let state = TempDir::new().unwrap();
        let mut daemon = ProcessIdentity::own();
        daemon.place.as_mut().unwrap().pid_namespace += 1;
        let record = serde_json::json!(daemon).to_string();
        fs::write(record_file(state.path()), &record).unwrap();
        let error = stop_engine(state.path()).await.unwrap_err().to_string();
        assert!(error.contains("another PID namespace"), "{error}");
        let kept = fs::read_to_string(record_file(state.path())).unwrap();
        assert_eq!(kept, record);
    }

    #[tokio::test]
    async fn the_recorded_process_is_stopped_once() {
        let state = TempDir::new().unwrap();
        let ours = start_sleep();
        write_record(state.path(), &ours).unwrap();
        for expected in [Stopped::Ended, Stopped::NotRunning] {
            assert_eq!(stop_engine(state.path()).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_recorded_process_after_sigstop_is_stopped_too() {
        let state = TempDir::new().unwrap();
        let ours = start_sleep();
        write_record(state.path(), &ours).unwrap();
        let process = ProcessIdentity::of(ours.id().unwrap()).unwrap();
        assert!(process.signal(Signal::SIGSTOP));
        assert_eq!(stop_engine(state.path()).await.unwrap(), Stopped::Ended);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_kept() {
        let state = TempDir::new().unwrap();
        fs::write(record_file(state.path()), "{\"pid\":").unwrap();
        let error = stop_engine(state.path()).await.unwrap_err().to_string();
        assert!(error.contains("dockerd.json"), "{error}");
        assert!(record_file(state.path()).exists());
    }

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let dir = TempDir::new().unwrap();
        let log = dir.path().join("log");
        let lines: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        fs::write(&log, lines.join("\n")).unwrap();
        assert!(end_of(&log).starts_with("88\n") && end_of(&log).ends_with("\n99"));
        fs::write(&log, "level=info a\nlevel=error b\nlevel=info c\n").unwrap();
        assert_eq!(end_of(&log), "level=error b");
        assert_eq!(end_of(&dir.path().join("absent")), "");
    }
}
