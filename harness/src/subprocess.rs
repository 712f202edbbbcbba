//! Runs a program to its end, with a deadline, and passes on what it says.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

/// How many of a program's last lines an error carries.
const LAST_LINES: usize = 15;

/// A program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum SubprocessError {
    /// It could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It said it failed.
    #[error("`{command}` failed ({status}); its last words:\n{last_lines}")]
    Failed {
        /// The whole command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it printed.
        last_lines: String,
    },
    /// It was ended because it took too long.
    #[error("`{command}` was ended after {} s; its last words:\n{last_lines}", .deadline.as_secs())]
    TooLong {
        /// The whole command.
        command: String,
        /// How long it was given.
        deadline: Duration,
        /// The last lines it printed.
        last_lines: String,
    },
}

/// Runs `argv` until it ends, at most `deadline`; each line of its output and
/// its errors goes to `progress`. It reads nothing.
///
/// # Errors
/// [`SubprocessError`], with the last lines that were printed.
///
/// # Panics
/// When `argv` is empty.
pub async fn run(
    argv: &[String],
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), SubprocessError> {
    let (program, arguments) = argv.split_first().expect("a command has a program");
    let command = shown(argv);
    let start = |source| SubprocessError::Start {
        program: program.clone(),
        source,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let mut last = VecDeque::new();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = tokio::time::timeout(deadline, async {
        let mut lines = lines_of(out, err);
        while let Some(line) = lines.recv().await {
            progress(&line);
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
        child.wait().await
    })
    .await;
    let last_lines = Vec::from(last).join("\n");
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(SubprocessError::Failed {
            command,
            status,
            last_lines,
        }),
        Ok(Err(source)) => Err(start(source)),
        Err(_elapsed) => Err(SubprocessError::TooLong {
            command,
            deadline,
            last_lines,
        }),
    }
}

/// Both streams as one, in the order of arrival. The readers end with the streams.
fn lines_of(
    out: Option<impl AsyncRead + Send + Unpin + 'static>,
    err: Option<impl AsyncRead + Send + Unpin + 'static>,
) -> tokio::sync::mpsc::Receiver<String> {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    if let Some(out) = out {
        tokio::spawn(forward(out, sender.clone()));
    }
    if let Some(err) = err {
        tokio::spawn(forward(err, sender));
    }
    receiver
}

async fn forward(stream: impl AsyncRead + Unpin, sender: tokio::sync::mpsc::Sender<String>) {
    // Bytes, not `lines()`: a program may print what is not UTF-8.
    let mut chunks = BufReader::new(stream).split(b'\n');
    while let Ok(Some(chunk)) = chunks.next_segment().await {
        let line = String::from_utf8_lossy(&chunk).trim_end().to_owned();
        if sender.send(line).await.is_err() {
            return;
        }
    }
}

/// A command as one would type it.
pub fn shown(argv: &[String]) -> String {
    let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:@+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn every_line_is_passed_on() {
        let lines = Mutex::new(Vec::new());
        let progress = |line: &str| lines.lock().unwrap().push(line.to_owned());
        run(
            &sh("echo one; echo two >&2"),
            Duration::from_secs(5),
            &progress,
        )
        .await
        .unwrap();
        let mut lines = lines.into_inner().unwrap();
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
    }

    #[tokio::test]
    async fn a_failure_carries_the_last_lines() {
        let error = run(&sh("seq 100; exit 3"), Duration::from_secs(5), &|_| ())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(
            error.contains("\n86\n") && error.ends_with("100"),
            "{error}"
        );
        assert!(!error.contains("\n85\n"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended() {
        let started = Instant::now();
        let error = run(
            &sh("echo hm; exec sleep 60"),
            Duration::from_millis(300),
            &|_| (),
        )
        .await
        .unwrap_err();
        assert!(matches!(error, SubprocessError::TooLong { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn an_absent_program_is_named() {
        let argv = ["no-such-program-here".to_owned()];
        let error = run(&argv, Duration::from_secs(5), &|_| ())
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("no-such-program-here"),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_shell_reads_a_shown_command_as_it_was(word in "[ -~]{0,20}") {
            let argv = ["printf".to_owned(), "%s".to_owned(), word.clone()];
            let output = std::process::Command::new("sh").arg("-c").arg(shown(&argv)).output();
            // printf itself reads a leading dash of the format only, not of its arguments.
            prop_assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
        }
    }
}
