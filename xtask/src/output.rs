//! Printing. A closed pipe is ignored: `cargo xtask e2e 2>&1 | head` takes its environment down and
//! returns its own exit code. Any other failed write, as on a full disk, is an error once the
//! command has finished.

use std::borrow::Cow;
use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
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

/// Prints an answer for people, with its lines wrapped at the columns.
pub fn answer_wrapped(text: &str) {
    let columns = columns(io::stdout());
    for line in text.split('\n') {
        let line = match columns {
            Some(columns) => wrapped(line, columns),
            None => line.into(),
        };
        answer(format_args!("{line}"));
    }
}

/// Returns the columns of this stream: those of `COLUMNS`, or of the terminal. In a log, where
/// lines are not wrapped, there are none.
fn columns(stream: impl AsFd) -> Option<usize> {
    let variable = std::env::var("COLUMNS").ok();
    let given = variable.and_then(|it| it.parse().ok());
    let given = given.filter(|columns| *columns > 0);
    given.or_else(|| terminal_size::terminal_size_of(stream).map(|(width, _)| width.0.into()))
}

/// Wraps a line that is too long. What follows stands below the line's last column, as in a table.
/// A command stays on one line, so that it can be copied.
fn wrapped(line: &str, columns: usize) -> Cow<'_, str> {
    if line.contains("cargo xtask") || textwrap::core::display_width(line) <= columns {
        return line.into();
    }
    let column = line.rfind("  ").map_or(0, |at| at + 2);
    let indent = " ".repeat(column.min(columns / 2));
    let options = textwrap::Options::new(columns)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(line, options.subsequent_indent(&indent)).into()
}

/// Sets the format of errors: without their causes, which the messages include, and wrapped at the
/// columns.
pub fn set_error_format() {
    const LOG_WIDTH: usize = 1000;
    let installed = miette::set_hook(Box::new(|_| {
        let options = MietteHandlerOpts::new().without_cause_chain();
        let options = options
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .break_words(false);
        let width = columns(io::stderr()).unwrap_or(LOG_WIDTH);
        Box::new(options.width(width).build())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_continues_below_its_last_column_and_a_command_is_not_broken() {
        let line = "smoke     1  the platform answers as its smoke checks expect";
        assert_eq!(
            wrapped(line, 30),
            "smoke     1  the platform\n             answers as its\n             smoke checks\n             expect"
        );
        assert_eq!(wrapped(line, 80), line);
        let command = "next: cargo xtask load compare target/reports/a target/reports/b";
        assert_eq!(wrapped(command, 20), command);
        assert_eq!(wrapped("a/path/that/is/long", 5), "a/path/that/is/long");
    }
}
