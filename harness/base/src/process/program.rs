//! A child that runs until it is stopped, with a log file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, User};
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::group::{self, Reach};
use super::run_bound;

/// A program to start as a child that exits with this process.
#[derive(Clone, Debug)]
pub struct Program {
    /// Names the child in messages and its log file.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments: never a secret.
    pub arguments: Vec<OsString>,
    /// Its environment, in addition to [`passed_on`]. Secrets belong here.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs, if not where this process does.
    pub directory: Option<PathBuf>,
    /// The user to become, where the program refuses to run as root.
    pub user: Option<User>,
    /// The file of its standard error, and of its standard output without `answer`.
    pub log: PathBuf,
    /// The signal that requests it to stop.
    pub stop_signal: Signal,
    /// Which processes receive `stop_signal`.
    pub stop_reaches: Reach,
    /// The signal that it receives when its owner dies.
    pub death_signal: Signal,
    /// The file of its standard output, where another program reads it.
    pub answer: Option<PathBuf>,
}

/// A child could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its log file could not be opened.
    #[error("cannot write the log of {name}, {}: {source}", log.display())]
    Log {
        /// The child's name.
        name: String,
        /// Its log file.
        log: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The operating system refused to start it.
    #[error("cannot start {name} ({}): {source}", path.display())]
    Spawn {
        /// The child's name.
        name: String,
        /// Its executable.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// A running child. It is killed when it is dropped, and when this process dies.
#[derive(Debug)]
pub struct BoundChild {
    /// Names it in messages.
    pub name: String,
    /// The file of its output.
    pub log: PathBuf,
    stop_signal: Signal,
    stop_reaches: Reach,
    child: Child,
    pid: u32,
}

/// The variables that every child inherits; the rest of the user's environment stays out. A
/// program on PATH may be a shim of asdf, mise or pyenv, which reads its user's files.
const PASSED_ON: [&str; 12] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "RUST_BACKTRACE",
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
];
const OF_SHIMS: [&str; 3] = ["ASDF_", "MISE_", "PYENV_"];

/// Returns the variables of this process that a child inherits which runs as `user`. A check
/// whether a program works uses the same environment.
pub fn passed_on(user: Option<&User>) -> Vec<(OsString, OsString)> {
    let is_passed = |name: &OsString| {
        let bytes = name.as_encoded_bytes();
        let mut of_shims = OF_SHIMS.iter();
        PASSED_ON.iter().any(|it| name == it) || of_shims.any(|it| bytes.starts_with(it.as_bytes()))
    };
    let mut variables: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| is_passed(name))
        .collect();
    if let Some(user) = user {
        // As su(1) does; of two values the last one counts.
        variables.extend([
            ("HOME".into(), user.dir.clone().into()),
            ("USER".into(), user.name.clone().into()),
            ("LOGNAME".into(), user.name.clone().into()),
        ]);
    }
    variables
}

/// Converts variables to the form of [`Program::environment`].
pub fn variables(all: impl IntoIterator<Item = (String, String)>) -> Vec<(OsString, OsString)> {
    all.into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

impl Program {
    /// Starts the program; its output is appended to its files.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(&self) -> Result<BoundChild, StartError> {
        let (output, errors) = self.outputs()?;
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|source| StartError::Spawn {
                name: self.name.clone(),
                path: self.path.clone(),
                source,
            })?;
        let pid = child.id().unwrap_or_default();
        Ok(BoundChild {
            name: self.name.clone(),
            log: self.log.clone(),
            stop_signal: self.stop_signal,
            stop_reaches: self.stop_reaches,
            child,
            pid,
        })
    }

    fn command(&self) -> Command {
        let user = self.user.as_ref();
        let name = user.map(|user| user.name.as_str());
        let mut command = run_bound::bound(&self.path, name, self.death_signal);
        command.args(&self.arguments).env_clear();
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.envs(passed_on(user));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Opens the files of its standard output and its standard error.
    fn outputs(&self) -> Result<(File, File), StartError> {
        let output = self.answer.as_ref().unwrap_or(&self.log);
        Ok((self.open(output)?, self.open(&self.log)?))
    }

    fn open(&self, file: &Path) -> Result<File, StartError> {
        let opened = OpenOptions::new().create(true).append(true).open(file);
        opened.map_err(|source| StartError::Log {
            name: self.name.clone(),
            log: file.to_owned(),
            source,
        })
    }
}

impl BoundChild {
    /// Returns the child's process id, also after it has exited.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the child exits.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Returns how the child exited, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Requests the child to stop, and kills it after `grace`. Returns how it exited.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn stop(&mut self, grace: Duration) -> std::io::Result<ExitStatus> {
        self.request_stop();
        if let Ok(status) = timeout(grace, self.child.wait()).await {
            return status;
        }
        self.kill();
        self.child.wait().await
    }

    /// Requests the child to stop.
    pub fn request_stop(&mut self) {
        if let Some(pid) = self.running() {
            group::request_stop(pid, self.stop_signal, self.stop_reaches);
        }
    }

    /// Sends `signal` to the processes that its stop signal reaches.
    pub fn send(&mut self, signal: Signal) {
        if let Some(pid) = self.running() {
            group::send(pid, signal, self.stop_reaches);
        }
    }

    /// Kills the child and the processes that it has started.
    pub fn kill(&mut self) {
        if let Some(pid) = self.running() {
            group::send(pid, Signal::SIGKILL, Reach::Group);
        }
    }

    /// Returns the process id until the child has exited: then it may belong to another process.
    fn running(&mut self) -> Option<Pid> {
        let pid = i32::try_from(self.pid).ok().map(Pid::from_raw);
        pid.filter(|_| self.has_ended().is_none())
    }
}

/// Describes how a process exited: `exit code 1`, `signal 9 (SIGKILL)`.
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("signal {number} ({signal})"),
            Err(_) => format!("signal {number}"),
        },
        (None, None) => "an unknown end".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the log and the file of the answer of a program that writes to both streams
    /// and ends no line of its standard error.
    fn written(with_answer: bool) -> (String, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let answer = folder.path().join("build.json");
        let program = Program {
            name: "build".into(),
            path: "sh".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            user: None,
            log: folder.path().join("build.log"),
            stop_signal: Signal::SIGTERM,
            stop_reaches: Reach::Group,
            death_signal: Signal::SIGKILL,
            answer: with_answer.then(|| answer.clone()),
        };
        let (output, errors) = program.outputs().unwrap();
        let ended = std::process::Command::new("sh")
            .args(["-c", "printf 'Building 1/30\\r' >&2; echo {}"])
            .stdout(output)
            .stderr(errors)
            .status();
        assert!(ended.unwrap().success());
        let log = std::fs::read_to_string(&program.log).unwrap();
        (log, std::fs::read_to_string(answer).ok())
    }

    #[test]
    fn an_answer_is_kept_apart_from_standard_error() {
        assert_eq!(
            written(true),
            ("Building 1/30\r".into(), Some("{}\n".into()))
        );
        assert_eq!(written(false), ("Building 1/30\r{}\n".into(), None));
    }
}
