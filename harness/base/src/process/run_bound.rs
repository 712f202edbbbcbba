//! The command `run-bound`: it ends a child when its owner dies, also by SIGKILL.
//!
//! A child is started through a second invocation of the harness's executable. That process
//! binds itself to the owner and then becomes the program:
//! - Linux: it sets `PR_SET_PDEATHSIG` (prctl(2)) after the change of user, which clears it.
//! - elsewhere: it stays, watches its parent, and ends the program.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that started the child exits. Start children
//! from the runtime's own threads, never from its blocking pool.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use nix::unistd::{User, getppid, initgroups, setgid, setuid};
use tokio::process::Command;

/// The flags of `run-bound`.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The owner's process id.
    pub owner: u32,
    /// The user to become, where the program refuses to run as root.
    pub user: Option<String>,
    /// The signal that the program receives when the owner dies: `KILL`, or `QUIT` for Postgres.
    pub death_signal: String,
    /// The processes that the program has started are killed when it exits.
    pub with_descendants: bool,
}

/// Returns a command for `program`, which receives `death_signal` when this process dies and
/// is killed when it is dropped. Arguments added to the command are the program's.
pub(super) fn bound(program: &Path, user: Option<&str>, death_signal: Signal) -> Command {
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

/// A terminal's Ctrl-C reaches the harness alone, which then stops its children in order.
fn in_own_group(command: &mut Command) {
    command.process_group(0).kill_on_drop(true);
}

/// Whether this executable has the command `run-bound`.
static HAS_RUN_BOUND: AtomicBool = AtomicBool::new(false);

/// Declares that this executable has the command `run-bound`. Call it once, at the start.
pub fn offer_run_bound() {
    HAS_RUN_BOUND.store(true, Ordering::Relaxed);
}

/// Returns a command for `program`, which is killed when it is dropped and, where this
/// executable has `run-bound`, when this process dies.
pub fn killed_with_us(program: &Path) -> Command {
    match HAS_RUN_BOUND.load(Ordering::Relaxed) {
        true => bound(program, None, Signal::SIGKILL),
        false => {
            let mut command = Command::new(program);
            in_own_group(&mut command);
            command
        }
    }
}

/// Returns a command for `program`. A SIGTERM kills it with the processes that it has
/// started. Where this executable has `run-bound`, so does the death of this process.
pub(super) fn killed_with_descendants(program: &str) -> Command {
    let mut command = match HAS_RUN_BOUND.load(Ordering::Relaxed) {
        true => {
            let mut command = run_bound(Signal::SIGKILL);
            command.args(["--with-descendants", "--", program]);
            command
        }
        false => Command::new(program),
    };
    command.process_group(0);
    command
}

/// Returns the running executable, by a path that works also after the file was replaced.
pub fn own_executable() -> PathBuf {
    let linux = Path::new("/proc/self/exe");
    if linux.exists() {
        return linux.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("xtask"))
}

/// Carries out `run-bound`: binds this process to `binding.owner`, then becomes the program.
/// Returns only after a failure.
pub fn run(binding: &Binding, program: &[OsString]) -> Error {
    match bind_and_become(binding, program) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn bind_and_become(binding: &Binding, program: &[OsString]) -> Result<Infallible> {
    let signal: Signal = binding.death_signal.parse()?;
    if let Some(user) = &binding.user {
        become_user(user)?;
    }
    let (path, arguments) = program
        .split_first()
        .ok_or_else(|| Error::other("run-bound: no program given"))?;
    let mut command = std::process::Command::new(path);
    command.args(arguments);
    #[cfg(target_os = "linux")]
    if binding.with_descendants {
        return super::descendants::run(binding.owner, command);
    }
    tie_and_run(binding, signal, command)
}

fn become_user(name: &str) -> Result<()> {
    let user = User::from_name(name)?
        .ok_or_else(|| Error::other(format!("run-bound: no user {name:?}")))?;
    let login = CString::new(name)?;
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
) -> Result<Infallible> {
    use std::os::unix::process::CommandExt;
    nix::sys::prctl::set_pdeathsig(signal)?;
    // The owner may have died before the signal was set.
    if getppid().as_raw().unsigned_abs() != binding.owner {
        return Err(Error::other("run-bound: the owner no longer runs"));
    }
    let error = command.exec();
    let program = command.get_program().display();
    Err(Error::new(
        error.kind(),
        format!("cannot start {program}: {error}"),
    ))
}

#[cfg(not(target_os = "linux"))]
fn tie_and_run(
    binding: &Binding,
    signal: Signal,
    mut command: std::process::Command,
) -> Result<Infallible> {
    use nix::sys::signal::{SigSet, kill, killpg};
    use nix::unistd::{Pid, getpgrp};
    const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);
    // A request to stop goes to the whole group: the program acts on it.
    let ignored = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    let mut child = command.spawn()?;
    ignored.thread_block()?;
    loop {
        if let Some(status) = child.try_wait()? {
            std::process::exit(status.code().unwrap_or(1));
        }
        if getppid().as_raw().unsigned_abs() != binding.owner {
            if binding.with_descendants {
                // The group includes this process.
                killpg(getpgrp(), Signal::SIGKILL)?;
            }
            let pid = i32::try_from(child.id()).map_err(Error::other)?;
            kill(Pid::from_raw(pid), signal)?;
            child.wait()?;
            std::process::exit(1);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
