//! Runs a command in a container, with standard input.

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

/// How many chunks are buffered between the engine and a command.
const CHUNKS_IN_FLIGHT: usize = 16;

/// Between two outputs of a command.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The standard input of a command. It ends when the sender is dropped.
pub type Input = mpsc::Receiver<Vec<u8>>;

/// Returns the two ends of a command's standard input.
pub fn input() -> (mpsc::Sender<Vec<u8>>, Input) {
    mpsc::channel(CHUNKS_IN_FLIGHT)
}

/// Runs `command` and returns its standard output.
///
/// # Errors
/// [`ImageError::InContainer`] with its standard error if it fails.
pub async fn run(
    engine: &Engine,
    container: &str,
    command: &[&str],
    input: Option<Input>,
) -> Result<String, ImageError> {
    let failed = |source: DockerError| ImageError::Engine {
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
    let id = created.map_err(failed)?.id;
    let started = engine.client().start_exec(&id, None::<StartExecOptions>);
    let mut printed = Output::default();
    if let StartExecResults::Attached {
        mut output,
        input: stdin,
    } = started.await.map_err(failed)?
    {
        let written = async {
            match input {
                Some(input) => write(stdin, input).await,
                // The command has no standard input.
                None => drop(stdin),
            }
        };
        let read = async {
            while let Some(chunk) = next(&mut output).await {
                printed.add(chunk.map_err(failed)?);
            }
            Ok::<_, ImageError>(())
        };
        let ((), read) = tokio::join!(written, read);
        read?;
    }
    let ended = engine.client().inspect_exec(&id).await.map_err(failed)?;
    match ended.exit_code {
        Some(0) => Ok(printed.out),
        code => Err(ImageError::InContainer {
            container: container.to_owned(),
            command: command.join(" "),
            code,
            stderr: printed.err.trim().to_owned(),
        }),
    }
}

/// Returns the next chunk; none at the end, or after [`OUTPUT_TIMEOUT`].
async fn next<S: futures::Stream + Unpin>(chunks: &mut S) -> Option<S::Item> {
    let chunk = tokio::time::timeout(OUTPUT_TIMEOUT, chunks.next()).await;
    chunk.unwrap_or_default()
}

/// A write fails if the command has exited early. Its exit code is reported.
async fn write(mut stdin: impl AsyncWrite + Unpin, mut input: Input) {
    while let Some(chunk) = input.recv().await {
        if stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = stdin.shutdown().await;
}

#[derive(Default)]
struct Output {
    out: String,
    err: String,
}

impl Output {
    fn add(&mut self, chunk: LogOutput) {
        let to = match chunk {
            LogOutput::StdErr { .. } => &mut self.err,
            _ => &mut self.out,
        };
        to.push_str(&chunk.to_string());
    }
}
