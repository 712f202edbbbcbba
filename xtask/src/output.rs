//! Printing. A pipe that was closed ends nothing: `cargo xtask e2e 2>&1 | head` takes its
//! environment down and ends with its own exit code. What is lost in any other way, to a full
//! disk say, is an error once the command is done.

use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

use harness::exit::ExitCode;
use miette::Diagnostic;
use thiserror::Error;

use crate::problem::Problem;

/// A line on standard error.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::say(format_args!($($text)*)) };
}

/// A line on standard output.
macro_rules! print_line {
    ($($text:tt)*) => { $crate::output::answer(format_args!($($text)*)) };
}

/// Something that was printed is lost.
#[derive(Clone, Debug, Error, Diagnostic)]
#[error("cannot write to {stream}: {reason}")]
#[diagnostic(help(
    "what was printed is incomplete: make room (`df -h` shows where there is none), or print elsewhere"
))]
struct Lost {
    stream: &'static str,
    reason: String,
}

/// The first loss of this process.
static LOST: OnceLock<Lost> = OnceLock::new();

/// What `say!` calls.
pub fn say(line: Arguments<'_>) {
    keep("standard error", write_line(&mut io::stderr(), line));
}

/// What `print_line!` calls.
pub fn answer(line: Arguments<'_>) {
    keep("standard output", write_line(&mut io::stdout(), line));
}

/// Help, or what is wrong with the command line; returns the exit code.
pub fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    match error.use_stderr() {
        true => keep("standard error", printed),
        false => keep("standard output", printed),
    }
    match error.exit_code() {
        0 => ExitCode::Held,
        _ => ExitCode::Usage,
    }
}

/// The exit code of a command that came to `code`: nothing holds whose answer is lost.
pub fn exit_code(code: ExitCode) -> ExitCode {
    let Some(lost) = LOST.get() else { return code };
    let told = Problem::no_environment(lost.clone()).show();
    match code {
        ExitCode::Held => told,
        failed => failed,
    }
}

fn write_line(stream: &mut impl Write, line: impl Display) -> io::Result<()> {
    // At once: lines of two processes on one terminal stay whole.
    stream.write_all(format!("{line}\n").as_bytes())?;
    stream.flush()
}

fn keep(stream: &'static str, printed: io::Result<()>) {
    match printed {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            let reason = error.to_string();
            // Where it is not the first, the first tells enough.
            let _ = LOST.set(Lost { stream, reason });
        }
    }
}
