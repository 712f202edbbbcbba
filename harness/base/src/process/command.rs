//! Runs a command to its exit, with a deadline, and passes on its output.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::group::{self, Reach};
use super::run_bound;
use crate::cargo;

/// The number of output lines that an error carries.
const LAST_LINES: usize = 15;

/// The time for a command to clean up after its deadline.
const GRACE: Duration = Duration::from_secs(5);

/// The time for the last lines after the exit. They are there immediately, but a daemon that
/// the command has started may hold its output open.
const LATE_LINES: Duration = Duration::from_millis(200);

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// It exited with a failure.
    #[error("`{command}` failed ({status}); its last lines:\n{last_lines}")]
    Failed {
        /// The command line.
        command: String,
        /// How it exited.
        status: ExitStatus,
        /// The last lines of its output.
        last_lines: String,
    },
    /// It did not exit within its deadline, and was stopped.
    #[error("`{command}` was stopped after {} s; its last lines:\n{last_lines}", .deadline.as_secs())]
    TimedOut {
        /// The command line.
        command: String,
        /// The time allowed.
        deadline: Duration,
        /// The last lines of its output.
        last_lines: String,
    },
}

/// Runs `argv` until it exits, at most for `deadline`, and passes each line of its output and
/// errors to `progress`. Its input is empty. When the future is dropped, the command and the
/// processes that it has started receive a SIGTERM; a daemon that it has started stays.
///
/// # Errors
/// [`CommandError`], with the last lines of its output.
///
/// # Panics
/// When `argv` is empty.
pub async fn run(
    argv: &[String],
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), CommandError> {
    let (program, arguments) = argv.split_first().expect("a command has a program");
    let mut command = tokio::process::Command::new(program);
    // Its own group: the children of apt-get are stopped with it.
    command.args(arguments).process_group(0);
    Subprocess::spawn(command, argv)?
        .ended(deadline, progress)
        .await
}

/// Runs `argv` in `dir` and returns its standard output. It exits as with [`start_in`].
///
/// # Errors
/// [`CommandError`], with the last lines of its standard error.
///
/// # Panics
/// When `argv` is empty.
pub async fn output_in(
    dir: &Path,
    argv: &[String],
    deadline: Duration,
) -> Result<String, CommandError> {
    start_in(dir, argv)?.output(deadline).await
}

/// Starts `argv` in `dir`; its input is empty. The processes that it starts are killed when it
/// exits. It is killed when it is dropped and, where this executable has `run-bound`, when
/// this process dies.
///
/// # Errors
/// [`CommandError::Start`].
///
/// # Panics
/// When `argv` is empty.
pub fn start_in(dir: &Path, argv: &[String]) -> Result<Subprocess, CommandError> {
    let (program, arguments) = argv.split_first().expect("a command has a program");
    let mut command = run_bound::killed_with_descendants(program);
    command.args(arguments).current_dir(dir);
    Subprocess::spawn(command, argv)
}

/// A running command. When it is dropped, its process group receives a SIGTERM.
pub struct Subprocess {
    line: String,
    child: Child,
    /// Its process group, which may outlive it. None once the wait is over: what it has started
    /// as a daemon stays, and the id may belong to another group.
    group: Option<Pid>,
}

impl Subprocess {
    fn spawn(
        mut command: tokio::process::Command,
        argv: &[String],
    ) -> Result<Subprocess, CommandError> {
        // The command may be cargo, or start it.
        for variable in cargo::crate_variables() {
            command.env_remove(variable);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| CommandError::Start {
                program: argv.first().cloned().unwrap_or_default(),
                source,
            })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Ok(Subprocess {
            line: shown(argv),
            child,
            group: pid.map(Pid::from_raw),
        })
    }

    /// Returns the process id; none after the exit.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the exit, at most for `deadline`, and passes each line of its output and errors
    /// to `progress`.
    ///
    /// # Errors
    /// [`CommandError`], with the last lines of its output.
    pub async fn ended(
        mut self,
        deadline: Duration,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), CommandError> {
        let mut last = LastLines::default();
        let listened = listen(&mut self.child, progress, &mut last);
        let ended = timeout(deadline, listened).await;
        self.succeeded(ended.ok(), deadline, last).await
    }

    /// Waits for the exit, at most for `deadline`, and returns the standard output.
    ///
    /// # Errors
    /// [`CommandError`], with the last lines of its standard error.
    pub async fn output(mut self, deadline: Duration) -> Result<String, CommandError> {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let read_all = async {
            let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
            tokio::try_join!(read(stdout, &mut output), read(stderr, &mut errors))?;
            self.child.wait().await
        };
        let ended = timeout(deadline, read_all).await;
        self.succeeded(ended.ok(), deadline, LastLines::of(&errors))
            .await?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Returns the error of a command that failed, or that is still running (`None`): that one
    /// is stopped.
    async fn succeeded(
        &mut self,
        ended: Option<std::io::Result<ExitStatus>>,
        deadline: Duration,
        last: LastLines,
    ) -> Result<(), CommandError> {
        let command = self.line.clone();
        let last_lines = last.text();
        if ended.is_none() {
            self.stop().await;
        }
        self.group = None;
        match ended {
            Some(Ok(status)) if status.success() => Ok(()),
            Some(Ok(status)) => Err(CommandError::Failed {
                command,
                status,
                last_lines,
            }),
            Some(Err(source)) => Err(CommandError::Start {
                program: command,
                source,
            }),
            None => Err(CommandError::TimedOut {
                command,
                deadline,
                last_lines,
            }),
        }
    }

    async fn stop(&mut self) {
        if let Some(group) = self.group {
            group::request_stop(group, Signal::SIGTERM, Reach::Group);
            if timeout(GRACE, self.child.wait()).await.is_err() {
                group::send(group, Signal::SIGKILL, Reach::Group);
                let _ = self.child.wait().await;
            }
        }
    }
}

impl Drop for Subprocess {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            group::send(group, Signal::SIGTERM, Reach::Group);
        }
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> std::io::Result<()> {
    if let Some(mut stream) = stream {
        stream.read_to_end(to).await?;
    }
    Ok(())
}

async fn listen(
    child: &mut Child,
    progress: &(dyn Fn(&str) + Sync),
    last: &mut LastLines,
) -> std::io::Result<ExitStatus> {
    let mut lines = lines_of(child.stdout.take(), child.stderr.take());
    let mut receive = |line: String| {
        progress(&line);
        last.push(line);
    };
    let status = loop {
        tokio::select! {
            Some(line) = lines.recv() => receive(line),
            status = child.wait() => break status,
        }
    };
    while let Ok(Some(line)) = timeout(LATE_LINES, lines.recv()).await {
        receive(line);
    }
    status
}

#[derive(Default)]
struct LastLines(VecDeque<String>);

impl LastLines {
    fn push(&mut self, line: String) {
        if self.0.len() == LAST_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    fn of(text: &[u8]) -> LastLines {
        let mut last = LastLines::default();
        for line in String::from_utf8_lossy(text).lines() {
            last.push(line.to_owned());
        }
        last
    }

    fn text(self) -> String {
        Vec::from(self.0).join("\n")
    }
}

/// Merges both streams, in the order of arrival. The readers end with the streams.
fn lines_of(
    out: Option<impl AsyncRead + Send + Unpin + 'static>,
    err: Option<impl AsyncRead + Send + Unpin + 'static>,
) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(64);
    if let Some(out) = out {
        tokio::spawn(forward(out, sender.clone()));
    }
    if let Some(err) = err {
        tokio::spawn(forward(err, sender));
    }
    receiver
}

async fn forward(stream: impl AsyncRead + Unpin, sender: mpsc::Sender<String>) {
    // Bytes, not `lines()`: a program may print what is not UTF-8.
    let mut chunks = BufReader::new(stream).split(b'\n');
    while let Ok(Some(chunk)) = chunks.next_segment().await {
        let line = String::from_utf8_lossy(&chunk).trim_end().to_owned();
        if sender.send(line).await.is_err() {
            return;
        }
    }
}

/// Returns a command as a user types it in a shell.
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
    async fn an_answer_is_standard_output_alone() {
        let here = Path::new("/");
        let answer = output_in(here, &sh("pwd; echo no >&2"), Duration::from_secs(5)).await;
        assert_eq!(answer.unwrap(), "/\n");
        let error = output_in(here, &sh("echo why >&2; exit 3"), Duration::from_secs(5)).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.ends_with("exit status: 3); its last lines:\nwhy"),
            "{error}"
        );
    }

    /// As a test, this program has what cargo sets for its crate.
    #[tokio::test]
    async fn a_program_gets_the_environment_without_what_is_this_crates() {
        let command = sh("echo ${CARGO_PKG_NAME-none} ${CARGO_MANIFEST_DIR-none} ${PATH:+path}");
        let deadline = Duration::from_secs(5);
        let answer = output_in(Path::new("/"), &command, deadline).await.unwrap();
        assert_eq!(answer, "none none path\n");
        let lines = Mutex::new(String::new());
        let progress = |line: &str| lines.lock().unwrap().push_str(line);
        run(&command, deadline, &progress).await.unwrap();
        assert_eq!(lines.into_inner().unwrap(), "none none path");
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
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    /// Waits until the process of the pid file has exited.
    async fn exits(pid_file: &std::path::Path) {
        let pid = std::fs::read_to_string(pid_file).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap());
        let deadline = Instant::now() + Duration::from_secs(5);
        while nix::sys::signal::kill(pid, None).is_ok() {
            assert!(Instant::now() < deadline, "{pid} still runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn what_a_program_started_is_ended_with_it() {
        let dir = tempfile::TempDir::new().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", pid_file.display());
        let error = run(&sh(&script), Duration::from_millis(300), &|_| ())
            .await
            .unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        exits(&pid_file).await;
    }

    #[tokio::test]
    async fn a_process_that_outlives_the_command_is_stopped_at_the_deadline() {
        let dir = tempfile::TempDir::new().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}", pid_file.display());
        let outcome = output_in(Path::new("/"), &sh(&script), Duration::from_millis(300)).await;
        assert!(
            matches!(outcome, Err(CommandError::TimedOut { .. })),
            "{outcome:?}"
        );
        exits(&pid_file).await;
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_takes_the_program_along() {
        let dir = tempfile::TempDir::new().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("echo $$ > {}; echo up; exec sleep 60", pid_file.display());
        let argv = sh(&script);
        let (up, is_up) = tokio::sync::oneshot::channel();
        let up = Mutex::new(Some(up));
        let progress = |_: &str| {
            let _ = up.lock().unwrap().take().map(|up| up.send(()));
        };
        tokio::select! {
            _ = run(&argv, Duration::from_secs(60), &progress) => panic!("it ended"),
            _ = is_up => {}
        }
        exits(&pid_file).await;
    }

    #[tokio::test]
    async fn a_daemon_that_holds_the_output_open_is_not_waited_for() {
        let started = Instant::now();
        let script = "setsid sleep 3 & exit 0";
        run(&sh(script), Duration::from_secs(30), &|_| ())
            .await
            .unwrap();
        assert!(started.elapsed() < Duration::from_secs(2));
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
