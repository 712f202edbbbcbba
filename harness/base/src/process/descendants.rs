//! Kills a program and the processes that it has started when their owner dies, in whatever
//! process group or session they are.
//!
//! `run-bound` stays between the owner and the program. It receives a signal when the owner
//! dies (prctl(2), `PR_SET_PDEATHSIG`) and adopts each process that loses its parent
//! (`PR_SET_CHILD_SUBREAPER`), so it can reach every descendant.

use std::convert::Infallible;
use std::io::{Error, Result};
use std::process::{Command, exit};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::interrupts::Interrupts;

/// Added to the number of a signal, as shells do.
const ENDED_BY_SIGNAL: i32 = 128;

/// Runs `program` and exits with its exit code; returns only if it could not be started. On a
/// signal to stop, or when `owner` dies, kills every descendant immediately: the owner
/// discards their results.
pub(super) fn run(owner: u32, program: Command) -> Result<Infallible> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(watched(owner, program))?;
    end_all();
    exit(code)
}

async fn watched(owner: u32, mut program: Command) -> Result<i32> {
    // Before the first signal can arrive. Handlers, because the program would inherit a mask.
    let mut ended = signal(SignalKind::child())?;
    let mut signals = Interrupts::new()?;
    prctl::set_child_subreaper(true)?;
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    // The owner may have died before the signal was set.
    if getppid().as_raw().unsigned_abs() != owner {
        return Err(Error::other("run-bound: the owner no longer runs"));
    }
    let child = program.spawn().map_err(|error| {
        let program = program.get_program().display();
        Error::new(error.kind(), format!("cannot start {program}: {error}"))
    })?;
    let child = Pid::from_raw(i32::try_from(child.id()).map_err(Error::other)?);
    loop {
        tokio::select! {
            _ = ended.recv() => if let Some(code) = end_of(child) {
                return Ok(code);
            },
            code = signals.next() => return Ok(code as i32),
        }
    }
}

/// Reaps the processes that have exited. Returns the exit code of `child`, if it is among them.
fn end_of(child: Pid) -> Option<i32> {
    let mut code = None;
    // One signal may report several exits.
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                code = Some(ENDED_BY_SIGNAL + signal as i32);
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return code,
            Ok(_) => {}
        }
    }
}

/// Kills the children of this process until none remains. A process that exits leaves its own
/// children to this one.
fn end_all() {
    loop {
        for child in children() {
            // It may have exited just now.
            let _ = kill(child, Signal::SIGKILL);
        }
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn children() -> Vec<Pid> {
    let own = getpid();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .map(Pid::from_raw)
        .filter(|process| parent(*process) == Some(own))
        .collect()
}

/// Reads the parent (proc_pid_stat(5)). The name is second, in parentheses, and may contain
/// anything; the state and the parent follow it.
fn parent(process: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let parent = after_name.split(' ').nth(1)?;
    parent.parse().ok().map(Pid::from_raw)
}
