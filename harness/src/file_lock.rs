//! One process at a time, by a lock on a file that the kernel frees however its
//! holder ends. The holder signs the file, so that whoever waits can name it.

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

/// Between two tries, growing from the one to the other. Polled, since a blocked `flock`
/// cannot be given up.
const TRY_EVERY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];
/// A wait that lasts longer says whom it waits for, again and again.
const SAY_AFTER: Duration = Duration::from_secs(3);
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Who holds a lock, as the file says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Holder {
    /// The process that took it.
    #[serde(flatten)]
    pub process: ProcessIdentity,
    /// Its command line, which has no secret in it.
    pub command: String,
    /// Since when.
    pub since: Timestamp,
}

impl Holder {
    fn own() -> Self {
        let mut command: Vec<String> = std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        if let Some(program) = command.first_mut() {
            let name = Path::new(program.as_str()).file_name();
            *program = name.unwrap_or_default().to_string_lossy().into_owned();
        }
        Holder {
            process: ProcessIdentity::own(),
            command: command.join(" "),
            since: Timestamp::now(),
        }
    }

    /// Who took the lock last; none where the file is not there or not signed.
    pub fn of(path: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
    }

    fn next(&self) -> String {
        let pid = self.process.pid;
        match self.process.life() {
            Life::Alive if self.process.is_stopped() => {
                format!("`kill -CONT {pid}` lets it go on, `kill -KILL {pid}` ends it")
            }
            Life::Alive => format!("`ps -fp {pid}` shows what it does, `kill {pid}` ends it"),
            Life::Dead => "what it started has the lock still: `lsof` on the file shows it".into(),
            Life::Unknown(_) => "end it where it runs".into(),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Holder {
            process,
            command,
            since,
        } = self;
        write!(f, "{process} (`{command}`), since {since:.0}")?;
        match process.life() {
            Life::Alive if process.is_stopped() => f.write_str(", which is stopped"),
            Life::Alive => Ok(()),
            Life::Dead => f.write_str(", which has ended"),
            Life::Unknown(why) => write!(f, "; {why}"),
        }
    }
}

/// A lock that could not be had.
#[derive(Debug, Error, Diagnostic)]
pub enum LockError {
    /// Somebody else has it, and had it until the deadline.
    #[error("{} is locked by {holder}; it was not free within {deadline:?}", path.display())]
    #[diagnostic(help("{next}"))]
    Held {
        /// The file.
        path: PathBuf,
        /// By whom.
        holder: String,
        /// How long it was waited for.
        deadline: Duration,
        /// What to do.
        next: String,
    },
    /// The file cannot be locked.
    #[error("cannot lock {}: {source}", path.display())]
    #[diagnostic(help("make its folder writable (`ls -ld` and `df -h` on it tell)"))]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl LockError {
    fn held(path: &Path, deadline: Duration) -> Self {
        let (holder, next) = match Holder::of(path) {
            Some(holder) => (holder.to_string(), holder.next()),
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

/// Waits until the lock on `path` is ours, and signs it; dropping the file frees it.
/// `progress` is told whom a longer wait is for.
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

/// As [`lock`], beside others who share it.
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

/// The lock on `path`, signed; or at once who has it.
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

/// Whether somebody has the lock; none where there is no such file, or it cannot be told.
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
    let mut say_at = begun + SAY_AFTER;
    let [mut pause, longest_pause] = TRY_EVERY;
    loop {
        match take(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(LockError::file(path)(error)),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= deadline => {
                return Err(LockError::held(path, deadline));
            }
            Err(TryLockError::WouldBlock) => {}
        }
        if Instant::now() >= say_at {
            say_at += SAY_EVERY;
            let holder = Holder::of(path).map(|holder| holder.to_string());
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

/// Not truncated: it may be another's, and signed.
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
    let json = serde_json::to_vec(&Holder::own())?;
    match file.write_all(&json) {
        // A full disk keeps nobody from locking: the lock is not signed then.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        written => written,
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
    async fn a_second_holder_waits_for_the_first_and_is_told_who_it_is() {
        let (_folder, path) = path();
        let first = lock(&path, Duration::ZERO, QUIET).await.unwrap();
        let late = lock(&path, Duration::from_millis(150), QUIET).await;
        let late = late.unwrap_err().to_string();
        let own = format!("is locked by process {}", std::process::id());
        assert!(late.contains(&own), "{late}");
        assert!(late.contains("(`harness-"), "the command: {late}");
        drop(first);
        lock(&path, Duration::ZERO, QUIET).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_wait_says_whom_it_is_for() {
        let (_folder, path) = path();
        let _first = try_lock(&path).unwrap();
        let said = Mutex::new(Vec::new());
        let progress = |line: &str| said.lock().unwrap().push(line.to_owned());
        let late = lock_shared(&path, Duration::from_secs(5), &progress).await;
        assert!(matches!(late, Err(LockError::Held { .. })));
        let said = said.into_inner().unwrap();
        assert_eq!(said.len(), 1, "{said:?}");
        let own = format!("waiting for process {}", std::process::id());
        assert!(said[0].starts_with(&own), "{said:?}");
    }

    #[tokio::test]
    async fn a_holder_that_is_stopped_or_dead_is_called_so() {
        let (_folder, path) = path();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = ProcessIdentity::of(child.id()).unwrap();
        let holder = Holder {
            process: process.clone(),
            ..Holder::own()
        };
        let _held = try_lock(&path).unwrap();
        fs::write(&path, serde_json::to_vec(&holder).unwrap()).unwrap();
        process.signal(nix::sys::signal::Signal::SIGSTOP);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !process.is_stopped() {
            assert!(std::time::Instant::now() < deadline, "it does not stop");
            std::thread::yield_now();
        }
        let stopped = io::Error::from(try_lock(&path).unwrap_err()).to_string();
        assert!(stopped.contains("which is stopped"), "{stopped}");
        let next = format!("`kill -CONT {}` lets it go on", process.pid);
        assert!(stopped.contains(&next), "{stopped}");
        child.kill().unwrap();
        child.wait().unwrap();
        let dead = try_lock(&path).unwrap_err().to_string();
        assert!(dead.contains("which has ended"), "{dead}");
    }
}
