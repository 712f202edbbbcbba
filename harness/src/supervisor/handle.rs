//! A command's side of the supervisor.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::{Message, Order, Request};
use crate::process::bound::{describe, own_executable};

/// A supervisor that lives no longer than this handle, unless detached.
pub struct Supervisor {
    child: Child,
    requests: ChildStdin,
    messages: Lines<BufReader<ChildStdout>>,
}

/// The supervisor could not be started.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot start the supervisor: {0}")]
#[diagnostic(help("`cargo xtask doctor` says what this machine lacks"))]
pub struct StartError(#[from] std::io::Error);

/// A supervisor says something every [`super::BEAT`]; one that is silent for so long is
/// stopped or stuck, and will not do what it is asked.
const SILENCE: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Starts a supervisor and gives it its order. `environment` is added to this
    /// process's own, e.g. the engine's `DOCKER_HOST`.
    pub async fn start(
        order: &Order,
        environment: &[(String, String)],
    ) -> Result<Supervisor, StartError> {
        let errors = std::fs::File::create(log(order))?;
        let mut child = Command::new(own_executable())
            .arg("supervise")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            // Containers are removed by us, with a deadline; testcontainers would wait for
            // an engine without one.
            .env("TESTCONTAINERS_COMMAND", "keep")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()?;
        let (Some(mut requests), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("it has no pipes").into());
        };
        let line = serde_json::to_string(order).map_err(std::io::Error::other)?;
        // If it is gone already, reading will tell how.
        let _ = requests.write_all(format!("{line}\n").as_bytes()).await;
        Ok(Supervisor {
            child,
            requests,
            messages: BufReader::new(output).lines(),
        })
    }

    /// What it says next; `None` when it has ended or is silent for too long. May be
    /// dropped and called again.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let line = self.next_line().await?;
            match serde_json::from_str(&line) {
                Ok(Message::Alive) => {}
                Ok(message) => return Some(message),
                // A panic's text, say: it is in the log.
                Err(_) => {}
            }
        }
    }

    async fn next_line(&mut self) -> Option<String> {
        // In halves: after both were frozen, the time of one is over at once, and the
        // other is there to speak in.
        for _ in 0..2 {
            if let Ok(line) = timeout(SILENCE / 2, self.messages.next_line()).await {
                return line.ok().flatten();
            }
        }
        None
    }

    /// Asks it to take the environment down. Go on reading until [`Message::Down`].
    pub async fn request_stop(&mut self) {
        self.request(Request::Stop).await;
    }

    /// Asks it to live on. Go on reading until [`Message::Stays`].
    pub async fn request_stay(&mut self) {
        self.request(Request::Detach).await;
    }

    /// Waits for its end, after [`Message::Down`].
    pub async fn ended(&mut self, patience: Duration) {
        // It has nothing left to do; if it hangs all the same, the next start sweeps.
        let _ = timeout(patience, self.child.wait()).await;
    }

    /// Makes sure that it has ended, after [`Supervisor::next`] said `None`; how it did,
    /// in words. Its children die with it.
    pub async fn bury(&mut self) -> String {
        // Its output ends a moment before itself.
        const A_MOMENT: Duration = Duration::from_millis(500);
        if let Ok(Ok(status)) = timeout(A_MOMENT, self.child.wait()).await {
            return format!("it ended with {}", describe(status));
        }
        match self.child.kill().await {
            Ok(()) => format!("it said nothing for {SILENCE:?} and was killed"),
            Err(error) => format!("it said nothing for {SILENCE:?} and cannot be killed: {error}"),
        }
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn request(&mut self, request: Request) {
        let line = serde_json::to_string(&request).unwrap_or_default();
        // If it is gone, reading will tell.
        let _ = self
            .requests
            .write_all(format!("{line}\n").as_bytes())
            .await;
        let _ = self.requests.flush().await;
    }
}

/// Where the supervisor's own words go.
pub fn log(order: &Order) -> PathBuf {
    order
        .run_folder
        .join(crate::run::LOGS)
        .join("supervisor.log")
}
