//! A command's side of the supervisor.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{Message, Order, Request};

/// A supervisor that lives no longer than this handle, unless detached.
pub struct Supervisor {
    child: Child,
    requests: ChildStdin,
    messages: Lines<BufReader<ChildStdout>>,
}

/// The supervisor cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum SupervisorError {
    /// It could not be started.
    #[error("cannot start the supervisor: {0}")]
    #[diagnostic(help("`cargo xtask doctor` says what this machine lacks"))]
    Start(std::io::Error),
    /// It ended, or stopped answering, without a word.
    #[error("the supervisor is gone without a word")]
    #[diagnostic(help(
        "its last words are in {}; `cargo xtask down --all` removes what it left", log.display()
    ))]
    Gone {
        /// Its log.
        log: PathBuf,
    },
}

impl Supervisor {
    /// Starts a supervisor and gives it its order. `environment` is added to this
    /// process's own, e.g. the engine's `DOCKER_HOST`.
    pub async fn start(
        order: &Order,
        environment: &[(String, String)],
    ) -> Result<Supervisor, SupervisorError> {
        let log = log(order);
        let errors = std::fs::File::create(&log).map_err(SupervisorError::Start)?;
        let own = std::env::current_exe().map_err(SupervisorError::Start)?;
        let mut child = Command::new(own)
            .arg("supervise")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(SupervisorError::Start)?;
        let (Some(mut requests), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(SupervisorError::Gone { log });
        };
        let line = serde_json::to_string(order)
            .map_err(|error| SupervisorError::Start(std::io::Error::other(error)))?;
        requests
            .write_all(format!("{line}\n").as_bytes())
            .await
            .map_err(SupervisorError::Start)?;
        Ok(Supervisor {
            child,
            requests,
            messages: BufReader::new(output).lines(),
        })
    }

    /// What it says next; `None` when it has ended. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let line = self.messages.next_line().await.ok().flatten()?;
            // A panic's text, say: it is in the log.
            if let Ok(message) = serde_json::from_str(&line) {
                return Some(message);
            }
        }
    }

    /// Asks it to take the environment down. Go on reading until [`Message::Down`].
    pub async fn request_stop(&mut self) {
        self.request(Request::Stop).await;
    }

    /// Lets it live on.
    pub async fn detach(mut self) {
        self.request(Request::Detach).await;
    }

    /// Waits for its end, after [`Message::Down`].
    pub async fn ended(mut self, patience: Duration) {
        // It has nothing left to do; if it hangs all the same, the next start sweeps.
        let _ = tokio::time::timeout(patience, self.child.wait()).await;
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
