//! Children that die with their owner, also when the owner is killed with SIGKILL.
//!
//! A child is started through a second invocation of the harness's own executable
//! (`run-bound`), which ties itself to the owner and then becomes the program:
//! - Linux: `PR_SET_PDEATHSIG` (prctl(2)), set after the change of user, which clears it.
//! - elsewhere: `run-bound` stays, watches its parent, and ends the program.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that started the child ends, so children
//! are started from the runtime's own threads, never from its blocking pool.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
#[cfg(not(target_os = "linux"))]
use nix::unistd::getpgrp;
use nix::unistd::{Pid, User, getppid, initgroups, setgid, setuid};
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What `run-bound` is asked to do; its command line is this struct's.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The owner's process id.
    pub owner: u32,
    /// The user to become, where the program refuses to run as root.
    pub user: Option<String>,
    /// What the program gets when the owner dies: `KILL` or, for Postgres, `QUIT`.
    pub death_signal: String,
    /// All that the program has started is killed with it, whenever it ends.
    pub with_descendants: bool,
}

/// A program to be started as a bound child. The environment is the child's only one.
#[derive(Clone, Debug)]
pub struct Program {
    /// Names the child in messages and its log file.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments: never a secret.
    pub arguments: Vec<OsString>,
    /// Its environment, beside what [`passed_on`] has; secrets go here.
    pub environment: Vec<(OsString, OsString)>,
    /// The user to become, where root is refused.
    pub user: Option<User>,
    /// Where standard error goes, and standard output with it.
    pub log: PathBuf,
    /// The signal that asks it to end.
    pub stop_signal: Signal,
    /// Who gets that signal.
    pub stop_reaches: Reach,
    /// The signal it gets when its owner dies.
    pub death_signal: Signal,
    /// Where standard output goes instead, when another program reads it.
    pub answer: Option<PathBuf>,
}

/// Who a child's stop signal is for. Elsewhere than on Linux always its whole group: the
/// program is a child of `run-bound` there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The program and all that it has started.
    Group,
    /// The program alone: what it has started sees its work through.
    Program,
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
        /// The system's word.
        source: std::io::Error,
    },
    /// The system refused to start it.
    #[error("cannot start {name} ({}): {source}", path.display())]
    Spawn {
        /// The child's name.
        name: String,
        /// Its executable.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

/// A running child; it dies with this process, and is killed when dropped.
#[derive(Debug)]
pub struct BoundChild {
    /// Names it in messages.
    pub name: String,
    /// Where its output goes.
    pub log: PathBuf,
    stop_signal: Signal,
    stop_reaches: Reach,
    child: Child,
    pid: u32,
}

/// Passed to every child; anything else of the user's environment stays out. What PATH has
/// may be a shim of asdf, mise or pyenv, which looks for its program in its user's files.
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

/// What of this process's environment a child has that is run as `user`. Whoever asks
/// whether a program works asks it under the same.
pub fn passed_on(user: Option<&User>) -> Vec<(OsString, OsString)> {
    let is_passed = |name: &OsString| {
        let bytes = name.as_encoded_bytes();
        let mut of_shims = OF_SHIMS.iter();
        PASSED_ON.iter().any(|it| name == it) || of_shims.any(|it| bytes.starts_with(it.as_bytes()))
    };
    let mut all: Vec<_> = std::env::vars_os()
        .filter(|(it, _)| is_passed(it))
        .collect();
    if let Some(user) = user {
        // As su(1) does; of two the last counts.
        all.extend([
            ("HOME".into(), user.dir.clone().into()),
            ("USER".into(), user.name.clone().into()),
            ("LOGNAME".into(), user.name.clone().into()),
        ]);
    }
    all
}

/// As a [`Program`] has them.
pub fn variables(all: impl IntoIterator<Item = (String, String)>) -> Vec<(OsString, OsString)> {
    all.into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

impl Program {
    /// Starts the program, its output appended to its files.
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
        let mut command = bound(&self.path, name, self.death_signal);
        command.args(&self.arguments).env_clear();
        command.envs(passed_on(user));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Its standard output and its standard error.
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

/// A command for `program` that gets `death_signal` when this process dies, and is killed
/// when dropped. Arguments are the program's.
fn bound(program: &Path, user: Option<&str>, death_signal: Signal) -> Command {
    let mut command = run_bound(death_signal);
    if let Some(user) = user {
        command.args(["--user", user]);
    }
    command.arg("--").arg(program);
    in_own_group(&mut command);
    command
}

fn run_bound(death_signal: Signal) -> Command {
    let mut command = Command::new(own_executable());
    command
        .args(["run-bound", "--owner"])
        .arg(std::process::id().to_string())
        .args(["--death-signal", death_signal.as_str()]);
    command
}

/// A terminal's Ctrl-C reaches the harness alone, which then ends its children in order.
fn in_own_group(command: &mut Command) {
    command.process_group(0).kill_on_drop(true);
}

/// Whether this executable has the command `run-bound`.
static HAS_RUN_BOUND: AtomicBool = AtomicBool::new(false);

/// This executable has the command `run-bound`: to be said once, when it starts.
pub fn offer_run_bound() {
    HAS_RUN_BOUND.store(true, Ordering::Relaxed);
}

/// A command for `program` that is killed when it is dropped; and when this process dies,
/// where its executable has `run-bound`.
pub(crate) fn killed_with_us(program: &Path) -> Command {
    match HAS_RUN_BOUND.load(Ordering::Relaxed) {
        true => bound(program, None, Signal::SIGKILL),
        false => {
            let mut command = Command::new(program);
            in_own_group(&mut command);
            command
        }
    }
}

/// A command for `program`, which is killed with all that it has started when it is sent a
/// SIGTERM, and when this process dies, where its executable has `run-bound`.
pub(crate) fn killed_with_descendants(program: &OsStr) -> Command {
    match HAS_RUN_BOUND.load(Ordering::Relaxed) {
        true => {
            let mut command = run_bound(Signal::SIGKILL);
            command.args(["--with-descendants", "--"]).arg(program);
            command.process_group(0);
            command
        }
        false => {
            let mut command = Command::new(program);
            command.process_group(0);
            command
        }
    }
}

/// The running executable, by a path that still works when the file was replaced.
pub(crate) fn own_executable() -> PathBuf {
    let linux = Path::new("/proc/self/exe");
    if linux.exists() {
        return linux.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("xtask"))
}

impl BoundChild {
    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the child's end.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// How the child ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks the child to end, and kills it after `grace`. Says how it ended.
    pub async fn stop(&mut self, grace: Duration) -> std::io::Result<ExitStatus> {
        self.request_stop();
        if let Ok(status) = timeout(grace, self.child.wait()).await {
            return status;
        }
        self.kill();
        self.child.wait().await
    }

    /// Asks the child to end.
    pub fn request_stop(&mut self) {
        self.signal(self.stop_signal, self.stop_reaches);
        // One that is stopped would not hear; systemd does the same (systemd.kill(5)).
        self.signal(Signal::SIGCONT, self.stop_reaches);
    }

    /// Sends it a signal.
    pub fn send(&mut self, signal: Signal) {
        self.signal(signal, self.stop_reaches);
    }

    /// Ends the child and all that it has started, whatever they do.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL, Reach::Group);
    }

    fn signal(&mut self, signal: Signal, reaches: Reach) {
        // The number of one that has ended may be another's by now.
        if self.has_ended().is_some() {
            return;
        }
        let Ok(pid) = i32::try_from(self.pid).map(Pid::from_raw) else {
            return;
        };
        let _ = match reaches {
            Reach::Program if cfg!(target_os = "linux") => kill(pid, signal),
            _ => killpg(pid, signal),
        };
    }
}

/// How a process ended, in words: `exit code 1`, `signal 9 (SIGKILL)`.
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

/// `run-bound` itself: ties this process to `binding.owner`, then becomes the program.
///
/// Returns only if that failed.
pub fn run(binding: &Binding, program: &[OsString]) -> std::io::Error {
    match bind_and_become(binding, program) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn bind_and_become(
    binding: &Binding,
    program: &[OsString],
) -> Result<std::convert::Infallible, std::io::Error> {
    let signal: Signal = binding.death_signal.parse()?;
    if let Some(user) = &binding.user {
        become_user(user)?;
    }
    let (path, arguments) = program
        .split_first()
        .ok_or_else(|| std::io::Error::other("run-bound: no program given"))?;
    let mut command = std::process::Command::new(path);
    command.args(arguments);
    #[cfg(target_os = "linux")]
    if binding.with_descendants {
        return super::descendants::run(binding.owner, command);
    }
    tie_and_run(binding, signal, command)
}

fn become_user(name: &str) -> Result<(), std::io::Error> {
    let user = User::from_name(name)?
        .ok_or_else(|| std::io::Error::other(format!("run-bound: no user {name:?}")))?;
    let login = std::ffi::CString::new(name)?;
    initgroups(&login, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    Ok(())
}

#[cfg(target_os = "linux")]
fn tie_and_run(
    binding: &Binding,
    signal: Signal,
    mut command: std::process::Command,
) -> Result<std::convert::Infallible, std::io::Error> {
    use std::os::unix::process::CommandExt;
    nix::sys::prctl::set_pdeathsig(signal)?;
    // The owner may have died before the signal was set.
    if getppid().as_raw().unsigned_abs() != binding.owner {
        return Err(std::io::Error::other("run-bound: the owner is gone"));
    }
    let error = command.exec();
    let program = command.get_program().display();
    Err(std::io::Error::new(
        error.kind(),
        format!("cannot start {program}: {error}"),
    ))
}

#[cfg(not(target_os = "linux"))]
fn tie_and_run(
    binding: &Binding,
    signal: Signal,
    mut command: std::process::Command,
) -> Result<std::convert::Infallible, std::io::Error> {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    // A request to stop goes to the whole group and is the program's to act on.
    let ignored = nix::sys::signal::SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    let mut child = command.spawn()?;
    ignored.thread_block()?;
    loop {
        if let Some(status) = child.try_wait()? {
            std::process::exit(status.code().unwrap_or(1));
        }
        if getppid().as_raw().unsigned_abs() != binding.owner {
            if binding.with_descendants {
                // The group, this process with it.
                killpg(getpgrp(), Signal::SIGKILL)?;
            }
            let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
            kill(Pid::from_raw(pid), signal)?;
            child.wait()?;
            std::process::exit(1);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left in the log, and in the file for the answer, of a program that writes to
    /// both streams and ends no line of its standard error.
    fn left(with_answer: bool) -> (String, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let answer = folder.path().join("build.json");
        let program = Program {
            name: "build".into(),
            path: "sh".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
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
    fn an_answer_is_kept_apart_from_what_is_said_beside_it() {
        assert_eq!(left(true), ("Building 1/30\r".into(), Some("{}\n".into())));
        assert_eq!(left(false), ("Building 1/30\r{}\n".into(), None));
    }
}
