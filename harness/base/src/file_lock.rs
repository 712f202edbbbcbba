//! Locks on files, for one process at a time. The kernel frees a lock when its holder exits. The
//! holder writes its identity to the file, so that a process that waits can name it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::Instant;

use crate::process::identity::{Life, ProcessIdentity};

/// The first and the longest pause between two attempts. A blocked `flock` cannot be cancelled,
/// so the lock is polled.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];
/// A longer wait reports the holder, first after this time and then repeatedly.
const REPORT_AFTER: Duration = Duration::from_secs(3);
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// The holder of a lock, as recorded in the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct LockHolder {
    /// The process.
    #[serde(flatten)]
    pub process: ProcessIdentity,
    /// Its command line. It contains no secret.
    pub command: String,
    /// When it took the lock.
    pub since: Timestamp,
}

impl LockHolder {
    fn own() -> Self {
        let mut command: Vec<String> = std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        if let Some(program) = command.first_mut() {
            let name = Path::new(program.as_str()).file_name();
            *program = name.unwrap_or_default().to_string_lossy().into_owned();
        }
        LockHolder {
            process: ProcessIdentity::own(),
            command: command.join(" "),
            since: Timestamp::now(),
        }
    }

    /// Returns the process that last took the lock. None if the file does not exist or names none.
    pub fn of(path: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
    }

    fn remedy(&self) -> String {
        let pid = self.process.pid;
        match self.process.life() {
            Life::Alive if self.process.is_stopped() => {
                format!("`kill -CONT {pid}` continues it, `kill -KILL {pid}` kills it")
            }
            Life::Alive => format!("`ps -fp {pid}` shows what it does, `kill {pid}` ends it"),
            Life::Dead => {
                "a process that it started holds the lock: `lsof` on the file shows it".into()
            }
            Life::Unknown(_) => "end it where it runs".into(),
        }
    }
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let process = &self.process;
        write!(f, "{process} (`{}`), since {:.0}", self.command, self.since)?;
        match process.life() {
            Life::Alive if process.is_stopped() => f.write_str(", which is stopped"),
            Life::Alive => Ok(()),
            Life::Dead => f.write_str(", which has ended"),
            Life::Unknown(why) => write!(f, "; {why}"),
        }
    }
}

/// A lock that could not be taken.
#[derive(Debug, Error, Diagnostic)]
pub enum LockError {
    /// Another process held it until the deadline.
    #[error("{} is locked by {holder}; it was not free within {deadline:?}", path.display())]
    #[diagnostic(help("{next}"))]
    Held {
        /// The file.
        path: PathBuf,
        /// Its holder.
        holder: String,
        /// The time limit.
        deadline: Duration,
        /// The remedy.
        next: String,
    },
    /// The file cannot be locked.
    #[error("cannot lock {}: {source}", path.display())]
    #[diagnostic(help("make its folder writable: see `ls -ld` and `df -h`"))]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl LockError {
    fn held(path: &Path, deadline: Duration) -> Self {
        let (holder, next) = match LockHolder::of(path) {
            Some(holder) => (holder.to_string(), holder.remedy()),
            None => (
                "another process".to_owned(),
                "`lsof` on the file shows it".to_owned(),
            ),
        };
        LockError::Held {
            path: path.to_owned(),
            holder,
            deadline,
            next,
        }
    }

    fn file(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| LockError::File {
            path: path.to_owned(),
            source,
        }
    }
}

impl From<LockError> for io::Error {
    fn from(error: LockError) -> io::Error {
        match error {
            LockError::Held { ref next, .. } => {
                io::Error::new(io::ErrorKind::TimedOut, format!("{error}; {next}"))
            }
            LockError::File { source, .. } => source,
        }
    }
}

/// Waits for the lock on `path`, takes it, and writes this process's identity to the file.
/// Dropping the file frees the lock. During a longer wait, `progress` receives the holder.
///
/// # Errors
/// [`LockError`].
pub async fn lock(
    path: &Path,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<File, LockError> {
    let file = wait(path, deadline, progress, File::try_lock).await?;
    sign(&file).map_err(LockError::file(path))?;
    Ok(file)
}

/// Like [`lock`], but shared with other processes. It does not write to the file.
///
/// # Errors
/// [`LockError`].
pub async fn lock_shared(
    path: &Path,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<File, LockError> {
    wait(path, deadline, progress, File::try_lock_shared).await
}

/// Like [`lock`], but does not wait.
///
/// # Errors
/// [`LockError`].
pub fn try_lock(path: &Path) -> Result<File, LockError> {
    let file = open(path).map_err(LockError::file(path))?;
    match file.try_lock() {
        Ok(()) => sign(&file).map_err(LockError::file(path))?,
        Err(TryLockError::WouldBlock) => return Err(LockError::held(path, Duration::ZERO)),
        Err(TryLockError::Error(error)) => return Err(LockError::file(path)(error)),
    }
    Ok(file)
}

/// Whether a process holds the lock. None if the file does not exist, or this cannot be determined.
pub fn is_held(path: &Path) -> Option<bool> {
    match File::open(path).ok()?.try_lock_shared() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    }
}

async fn wait(
    path: &Path,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
    take: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<File, LockError> {
    let file = open(path).map_err(LockError::file(path))?;
    let begun = Instant::now();
    let mut report_at = begun + REPORT_AFTER;
    let [mut pause, longest_pause] = PAUSES;
    loop {
        match take(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(LockError::file(path)(error)),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= deadline => {
                return Err(LockError::held(path, deadline));
            }
            Err(TryLockError::WouldBlock) => {}
        }
        if Instant::now() >= report_at {
            report_at += REPORT_EVERY;
            let holder = LockHolder::of(path).map(|holder| holder.to_string());
            let holder = holder.unwrap_or_else(|| "another process".into());
            progress(&format!(
                "waiting for {holder}: it holds {}",
                path.display()
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest_pause);
    }
}

/// Does not truncate the file: it may hold another process's identity.
fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
}

fn sign(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    let json = serde_json::to_vec(&LockHolder::own())?;
    match file.write_all(&json) {
        // On a full disk the lock is taken without an identity.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const QUIET: &(dyn Fn(&str) + Sync) = &|_| ();

    fn path() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        (folder, path)
    }

    #[tokio::test]
    async fn a_second_process_waits_and_its_error_names_the_first() {
        let (_folder, path) = path();
        let first = lock(&path, Duration::ZERO, QUIET).await.unwrap();
        let late = lock(&path, Duration::from_millis(150), QUIET).await;
        let late = late.unwrap_err().to_string();
        let own = format!("is locked by process {}", std::process::id());
        assert!(late.contains(&own), "{late}");
        assert!(late.contains("(`base-"), "the command: {late}");
        drop(first);
        lock(&path, Duration::ZERO, QUIET).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_wait_reports_the_holder() {
        let (_folder, path) = path();
        let _first = try_lock(&path).unwrap();
        let reported = Mutex::new(Vec::new());
        let progress = |line: &str| reported.lock().unwrap().push(line.to_owned());
        let late = lock_shared(&path, Duration::from_secs(5), &progress).await;
        assert!(matches!(late, Err(LockError::Held { .. })));
        let reported = reported.into_inner().unwrap();
        assert_eq!(reported.len(), 1, "{reported:?}");
        let own = format!("waiting for process {}", std::process::id());
        assert!(reported[0].starts_with(&own), "{reported:?}");
    }

    #[tokio::test]
    async fn an_error_reports_that_the_holder_is_stopped_or_has_ended() {
        let (_folder, path) = path();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = ProcessIdentity::of(child.id()).unwrap();
        let holder = LockHolder {
            process: process.clone(),
            ..LockHolder::own()
        };
        let _lock = try_lock(&path).unwrap();
        fs::write(&path, serde_json::to_vec(&holder).unwrap()).unwrap();
        process.signal(nix::sys::signal::Signal::SIGSTOP);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !process.is_stopped() {
            assert!(std::time::Instant::now() < deadline, "it does not stop");
            std::thread::yield_now();
        }
        let stopped = io::Error::from(try_lock(&path).unwrap_err()).to_string();
        assert!(stopped.contains("which is stopped"), "{stopped}");
        let remedy = format!("`kill -CONT {}` continues it", process.pid);
        assert!(stopped.contains(&remedy), "{stopped}");
        child.kill().unwrap();
        child.wait().unwrap();
        let dead = try_lock(&path).unwrap_err().to_string();
        assert!(dead.contains("which has ended"), "{dead}");
    }
}
