//! Runs a command in a container, with something to read.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as DockerError;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::ImageError;
use crate::engine::Engine;

/// What may be under way between the engine and a command, in chunks.
const CHUNKS_IN_FLIGHT: usize = 16;

/// Between two signs of life of a command.
const NEXT_WORD: Duration = Duration::from_secs(5 * 60);

/// Bytes for a command to read; it has read all when the sender is dropped.
pub(crate) type Input = mpsc::Receiver<Vec<u8>>;

/// Where bytes for commands come from.
pub(crate) fn input() -> (mpsc::Sender<Vec<u8>>, Input) {
    mpsc::channel(CHUNKS_IN_FLIGHT)
}

/// Runs `command` and tells what it printed on standard output.
///
/// # Errors
/// [`ImageError::InContainer`] with its standard error when it fails.
pub(crate) async fn run(
    engine: &Engine,
    container: &str,
    command: &[&str],
    input: Option<Input>,
) -> Result<String, ImageError> {
    let answered = |source: DockerError| ImageError::Engine {
        what: format!("run `{}` in {container}", command.join(" ")),
        source,
    };
    let config = ExecConfig {
        attach_stdin: Some(input.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        ..ExecConfig::default()
    };
    let created = engine.client().create_exec(container, config).await;
    let id = created.map_err(answered)?.id;
    let started = engine.client().start_exec(&id, None::<StartExecOptions>);
    let mut said = Said::default();
    if let StartExecResults::Attached {
        mut output,
        input: stdin,
    } = started.await.map_err(answered)?
    {
        let written = async {
            match input {
                Some(input) => write(stdin, input).await,
                // Kept open: nobody reads it.
                None => drop(stdin),
            }
        };
        let heard = async {
            while let Some(word) = next(&mut output).await {
                said.hear(word.map_err(answered)?);
            }
            Ok::<_, ImageError>(())
        };
        let ((), heard) = tokio::join!(written, heard);
        heard?;
    }
    let ended = engine.client().inspect_exec(&id).await.map_err(answered)?;
    match ended.exit_code {
        Some(0) => Ok(said.out),
        code => Err(ImageError::InContainer {
            container: container.to_owned(),
            command: command.join(" "),
            code,
            said: said.err.trim().to_owned(),
        }),
    }
}

/// The next word; none when all is said, or nothing for too long.
async fn next<S: futures::Stream + Unpin>(words: &mut S) -> Option<S::Item> {
    let word = tokio::time::timeout(NEXT_WORD, words.next()).await;
    word.unwrap_or_default()
}

/// A command that ends early stops reading: its exit code says why.
async fn write(mut stdin: impl AsyncWrite + Unpin, mut input: Input) {
    while let Some(chunk) = input.recv().await {
        if stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = stdin.shutdown().await;
}

#[derive(Default)]
struct Said {
    out: String,
    err: String,
}

impl Said {
    fn hear(&mut self, word: LogOutput) {
        let to = match word {
            LogOutput::StdErr { .. } => &mut self.err,
            _ => &mut self.out,
        };
        to.push_str(&word.to_string());
    }
}
