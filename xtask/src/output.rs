//! Printing. A closed pipe is ignored: `cargo xtask e2e 2>&1 | head` takes its environment down and
//! returns its own exit code. Any other failed write, as on a full disk, is an error once the
//! command has finished.

use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use base::exit::ExitCode;
use miette::{Diagnostic, MietteHandlerOpts};
use operations::problem::Problem;
use thiserror::Error;

/// Prints a line to standard error.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::say(format_args!($($text)*)) };
}

/// Prints a line to standard output.
macro_rules! print_line {
    ($($text:tt)*) => { $crate::output::answer(format_args!($($text)*)) };
}

/// A write to a standard stream failed.
#[derive(Clone, Debug, Error, Diagnostic)]
#[error("cannot write to {stream}: {reason}")]
#[diagnostic(help(
    "what was printed is incomplete: make room (`df -h` shows where there is none), or print elsewhere"
))]
struct Lost {
    stream: &'static str,
    reason: String,
}

/// The first failed write of this process.
static LOST: OnceLock<Lost> = OnceLock::new();

pub fn say(line: Arguments<'_>) {
    record_loss("standard error", write_line(&mut io::stderr(), line));
}

pub fn answer(line: Arguments<'_>) {
    record_loss("standard output", write_line(&mut io::stdout(), line));
}

/// Sets the format of errors: without their causes, which the messages include, and wrapped only on
/// a terminal.
pub fn set_error_format() {
    const LOG_WIDTH: usize = 1000;
    let installed = miette::set_hook(Box::new(|_| {
        let options = MietteHandlerOpts::new().without_cause_chain();
        let options = match std::io::stderr().is_terminal() {
            true => options,
            false => options.width(LOG_WIDTH),
        };
        Box::new(options.build())
    }));
    debug_assert!(installed.is_ok(), "the hook is set once");
}

/// Prints a problem's report, if it has one. Returns the exit code.
pub fn problem(problem: &Problem) -> ExitCode {
    if let Some(report) = problem.report() {
        say!("{report:?}");
    }
    problem.exit_code()
}

/// Prints the help, or what is wrong with the command line. Returns the exit code.
pub fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    let stream = match error.use_stderr() {
        true => "standard error",
        false => "standard output",
    };
    record_loss(stream, printed);
    match error.exit_code() {
        0 => ExitCode::Held,
        _ => ExitCode::Usage,
    }
}

/// Returns the exit code of a command that ended with `code`: a command whose output is lost fails.
pub fn exit_code(code: ExitCode) -> ExitCode {
    let Some(lost) = LOST.get() else { return code };
    let code_of_loss = problem(&Problem::no_environment(lost.clone()));
    match code {
        ExitCode::Held => code_of_loss,
        failed => failed,
    }
}

fn write_line(stream: &mut impl Write, line: impl Display) -> io::Result<()> {
    // In one write, so that lines of two processes on one terminal do not mix.
    stream.write_all(format!("{line}\n").as_bytes())?;
    stream.flush()
}

fn record_loss(stream: &'static str, printed: io::Result<()>) {
    if let Err(error) = printed
        && error.kind() != ErrorKind::BrokenPipe
    {
        let reason = error.to_string();
        // Only the first loss is reported.
        let _ = LOST.set(Lost { stream, reason });
    }
}
