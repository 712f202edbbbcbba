//! Runs a program to its end, with a deadline, and passes on what it says.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::cargo;
use crate::process::bound;

/// How many of a program's last lines an error carries.
const LAST_LINES: usize = 15;

/// What a program that took too long has to clean up after itself.
const GRACE: Duration = Duration::from_secs(5);

/// How long the last lines may follow the end of a program. They are there at
/// once, but a daemon it started may hold its output open for ever.
const LATE_LINES: Duration = Duration::from_millis(200);

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
/// its errors goes to `progress`. It reads nothing. When the caller goes away,
/// the program and what it started get a SIGTERM. A daemon that it starts stays.
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
    let mut command = Command::new(program);
    // A group of its own: apt-get's children are ended with it.
    command.args(arguments).process_group(0);
    let started = Started::new(command, argv)?;
    started.ended(deadline, progress).await
}

/// Runs `argv` in `dir` and tells what it printed on standard output; for commands
/// that answer, rather than work. It ends as with [`start_in`].
///
/// # Errors
/// [`SubprocessError`], with the last lines of its standard error.
///
/// # Panics
/// When `argv` is empty.
pub async fn output_in(
    dir: &Path,
    argv: &[String],
    deadline: Duration,
) -> Result<String, SubprocessError> {
    start_in(dir, argv)?.answered(deadline).await
}

/// Starts `argv` in `dir`. It reads nothing. All that it starts ends with it; and it ends when
/// it is dropped, and when this process dies, where its executable has `run-bound`.
///
/// # Errors
/// [`SubprocessError::Start`].
///
/// # Panics
/// When `argv` is empty.
pub fn start_in(dir: &Path, argv: &[String]) -> Result<Started, SubprocessError> {
    let (program, arguments) = argv.split_first().expect("a command has a program");
    let mut command = bound::killed_with_descendants(program.as_ref());
    command.args(arguments).current_dir(dir);
    Started::new(command, argv)
}

/// A program under way; it and what it has started get a SIGTERM when it is dropped.
pub struct Started {
    command: String,
    child: Child,
    group: Group,
}

impl Started {
    fn new(mut command: Command, argv: &[String]) -> Result<Started, SubprocessError> {
        // It may be a cargo, or start one.
        for variable in cargo::of_this_crate() {
            command.env_remove(variable);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| SubprocessError::Start {
                program: argv.first().cloned().unwrap_or_default(),
                source,
            })?;
        Ok(Started {
            command: shown(argv),
            group: Group::of(&child),
            child,
        })
    }

    /// Its process id; none once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end, at most `deadline`; each line of its output and its errors goes to
    /// `progress`.
    ///
    /// # Errors
    /// [`SubprocessError`], with the last lines that were printed.
    pub async fn ended(
        mut self,
        deadline: Duration,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), SubprocessError> {
        let mut last = LastLines::default();
        let listened = listen(&mut self.child, progress, &mut last);
        let Ok(ended) = tokio::time::timeout(deadline, listened).await else {
            return Err(self.too_long(deadline, last).await);
        };
        self.group.ended();
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failed(status, last)),
            Err(source) => Err(self.lost(source)),
        }
    }

    /// Waits for its end, at most `deadline`, and tells what it printed on standard output.
    ///
    /// # Errors
    /// [`SubprocessError`], with the last lines of its standard error.
    pub async fn answered(mut self, deadline: Duration) -> Result<String, SubprocessError> {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let heard = async {
            let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
            tokio::try_join!(read(stdout, &mut out), read(stderr, &mut errors))?;
            self.child.wait().await
        };
        let Ok(ended) = tokio::time::timeout(deadline, heard).await else {
            return Err(self.too_long(deadline, LastLines::of(&errors)).await);
        };
        self.group.ended();
        match ended {
            Ok(status) if status.success() => Ok(String::from_utf8_lossy(&out).into_owned()),
            Ok(status) => Err(self.failed(status, LastLines::of(&errors))),
            Err(source) => Err(self.lost(source)),
        }
    }

    async fn too_long(mut self, deadline: Duration, last: LastLines) -> SubprocessError {
        self.group.end(&mut self.child).await;
        SubprocessError::TooLong {
            command: std::mem::take(&mut self.command),
            deadline,
            last_lines: last.text(),
        }
    }

    fn failed(self, status: ExitStatus, last: LastLines) -> SubprocessError {
        SubprocessError::Failed {
            command: self.command,
            status,
            last_lines: last.text(),
        }
    }

    fn lost(self, source: std::io::Error) -> SubprocessError {
        SubprocessError::Start {
            program: self.command,
            source,
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
    let mut heard = |line: String| {
        progress(&line);
        last.push(line);
    };
    let status = loop {
        tokio::select! {
            Some(line) = lines.recv() => heard(line),
            status = child.wait() => break status,
        }
    };
    while let Ok(Some(line)) = tokio::time::timeout(LATE_LINES, lines.recv()).await {
        heard(line);
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

/// A program and what it started; ended when dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Group(pid.map(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may have ended just now.
            let _ = killpg(group, signal);
        }
    }

    /// SIGTERM, and SIGKILL to what ignores it.
    async fn end(&mut self, child: &mut Child) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            let _ = child.wait().await;
        }
        self.ended();
    }

    /// Its id may be another's from now on.
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
    }
}

/// Both streams as one, in the order of arrival. The readers end with the streams.
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
    async fn an_answer_is_standard_output_alone() {
        let here = Path::new("/");
        let answer = output_in(here, &sh("pwd; echo no >&2"), Duration::from_secs(5)).await;
        assert_eq!(answer.unwrap(), "/\n");
        let error = output_in(here, &sh("echo why >&2; exit 3"), Duration::from_secs(5)).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.ends_with("exit status: 3); its last words:\nwhy"),
            "{error}"
        );
    }

    /// As a test, this program has what cargo sets for its crate.
    #[tokio::test]
    async fn a_program_gets_the_environment_without_what_is_this_crates() {
        let ask = sh("echo ${CARGO_PKG_NAME-none} ${CARGO_MANIFEST_DIR-none} ${PATH:+path}");
        let deadline = Duration::from_secs(5);
        let answer = output_in(Path::new("/"), &ask, deadline).await.unwrap();
        assert_eq!(answer, "none none path\n");
        let heard = Mutex::new(String::new());
        let progress = |line: &str| heard.lock().unwrap().push_str(line);
        run(&ask, deadline, &progress).await.unwrap();
        assert_eq!(heard.into_inner().unwrap(), "none none path");
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

    /// The process, as its pid file tells, is gone before long.
    async fn is_gone(pid_file: &std::path::Path) {
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
        assert!(matches!(error, SubprocessError::TooLong { .. }), "{error}");
        is_gone(&pid_file).await;
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
        is_gone(&pid_file).await;
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
