//! Signals to a child that leads a process group.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Which processes receive a signal. Outside Linux it is always the group, because the
/// program is a child of `run-bound` there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The program and the processes that it has started.
    Group,
    /// The program alone: the processes that it has started finish their work.
    Program,
}

/// Sends `signal` to the process `leader`, or to its group.
pub(super) fn send(leader: Pid, signal: Signal, reach: Reach) {
    // It may have exited just now.
    let _ = match reach {
        Reach::Program if cfg!(target_os = "linux") => kill(leader, signal),
        _ => killpg(leader, signal),
    };
}

/// Sends `signal`, and SIGCONT, without which a stopped process does not receive it. systemd
/// does the same (systemd.kill(5)).
pub(super) fn request_stop(leader: Pid, signal: Signal, reach: Reach) {
    send(leader, signal, reach);
    send(leader, Signal::SIGCONT, reach);
}
