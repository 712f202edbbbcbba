//! A command's side of the supervisor.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::{Order, SupervisorRequest};
use crate::bring_up::SupervisorMessage;
use base::process::{describe, run_bound::own_executable};

/// A supervisor that lives no longer than this handle, unless detached.
pub struct Supervisor {
    child: Child,
    requests: ChildStdin,
    messages: Lines<BufReader<ChildStdout>>,
}

/// The supervisor could not be started.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot start the supervisor: {0}")]
#[diagnostic(help("`cargo xtask doctor` shows what this machine lacks"))]
pub struct SupervisorError(#[from] std::io::Error);

/// A supervisor that sends nothing for so long is stopped or stuck: its interval is
/// [`super::BEAT`].
const SILENCE: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Starts a supervisor and sends it the order. `environment` is added to the environment of
    /// this process, e.g. the engine's `DOCKER_HOST`.
    pub async fn start(
        order: &Order,
        environment: &[(String, String)],
    ) -> Result<Supervisor, SupervisorError> {
        let errors = std::fs::File::create(log(order))?;
        let mut child = Command::new(own_executable())
            .arg("supervise")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            // The supervisor removes containers with a deadline; testcontainers has none.
            .env("TESTCONTAINERS_COMMAND", "keep")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()?;
        let (Some(requests), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("it has no pipes").into());
        };
        let mut supervisor = Supervisor {
            child,
            requests,
            messages: BufReader::new(output).lines(),
        };
        supervisor.send(order).await?;
        Ok(supervisor)
    }

    /// Returns the next message; `None` when the supervisor has exited or sent nothing for too
    /// long. Cancel safe.
    pub async fn next(&mut self) -> Option<SupervisorMessage> {
        loop {
            let line = self.next_line().await?;
            match serde_json::from_str(&line) {
                // Other text, e.g. of a panic, is in the log.
                Ok(SupervisorMessage::Alive) | Err(_) => {}
                Ok(message) => return Some(message),
            }
        }
    }

    async fn next_line(&mut self) -> Option<String> {
        // In two halves: when both processes were suspended, the first one has passed already.
        // The second one then leaves time for a message.
        for _ in 0..2 {
            if let Ok(line) = timeout(SILENCE / 2, self.messages.next_line()).await {
                return line.ok().flatten();
            }
        }
        None
    }

    /// Requests the teardown of the environment. [`SupervisorMessage::Down`] follows.
    pub async fn request_stop(&mut self) {
        let _ = self.send(&SupervisorRequest::Stop).await;
    }

    /// Requests that the supervisor stays. [`SupervisorMessage::Stays`] follows.
    pub async fn request_stay(&mut self) {
        let _ = self.send(&SupervisorRequest::Detach).await;
    }

    /// Waits until the supervisor exits, after [`SupervisorMessage::Down`].
    pub async fn ended(&mut self, within: Duration) {
        // If it hangs, the next start sweeps what it left.
        let _ = timeout(within, self.child.wait()).await;
    }

    /// Kills the supervisor unless it has exited, after [`Supervisor::next`] returned `None`.
    /// Returns how it ended. Its children end with it.
    pub async fn kill(&mut self) -> String {
        // Its output ends shortly before the process.
        const GRACE: Duration = Duration::from_millis(500);
        if let Ok(Ok(status)) = timeout(GRACE, self.child.wait()).await {
            return format!("it ended with {}", describe(status));
        }
        match self.child.kill().await {
            Ok(()) => format!("it sent nothing for {SILENCE:?} and was killed"),
            Err(error) => format!("it sent nothing for {SILENCE:?} and cannot be killed: {error}"),
        }
    }

    /// Returns the process id, while the supervisor runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn send(&mut self, message: &impl Serialize) -> std::io::Result<()> {
        let line = serde_json::to_string(message)? + "\n";
        // If the supervisor has exited, reading shows it.
        let _ = self.requests.write_all(line.as_bytes()).await;
        let _ = self.requests.flush().await;
        Ok(())
    }
}

/// Returns the path of the supervisor's log.
pub fn log(order: &Order) -> PathBuf {
    let logs = order.run_folder.join(base::run::LOGS);
    logs.join("supervisor.log")
}
