//! Why a command ends early, and the exit code that says so.

use std::io::IsTerminal;

use harness::exit::ExitCode;
use harness::rehearsal::Unwritten;
use harness::run::RunFolderError;
use miette::{Diagnostic, MietteHandlerOpts, Report, miette};

/// How errors are shown: their messages name the cause themselves, and a log is not
/// wrapped as a terminal is.
pub fn show_as_people_read() {
    const LOG_WIDTH: usize = 1000;
    let shown = miette::set_hook(Box::new(|_| {
        let options = MietteHandlerOpts::new().without_cause_chain();
        let options = match std::io::stderr().is_terminal() {
            true => options,
            false => options.width(LOG_WIDTH),
        };
        Box::new(options.build())
    }));
    // Set once, at the start: it cannot have been set before.
    debug_assert!(shown.is_ok());
}

/// An error to show, and its exit code.
pub struct Problem {
    code: ExitCode,
    report: Report,
}

impl Problem {
    /// An error with an exit code.
    pub fn new(code: ExitCode, error: impl Diagnostic + Send + Sync + 'static) -> Self {
        let report = Report::new(error);
        Problem { code, report }
    }

    /// Bad usage or configuration.
    pub fn usage(error: impl Diagnostic + Send + Sync + 'static) -> Self {
        Problem::new(ExitCode::Usage, error)
    }

    /// The environment could not be had.
    pub fn no_environment(error: impl Diagnostic + Send + Sync + 'static) -> Self {
        Problem::new(ExitCode::NoEnvironment, error)
    }

    /// The system refused something that it usually grants.
    pub fn system(what: &str, error: impl std::fmt::Display) -> Self {
        Problem {
            code: ExitCode::NoEnvironment,
            report: miette!(
                help = "`cargo xtask doctor` says what this machine lacks",
                "cannot {what}: {error}"
            ),
        }
    }

    /// Prints the error; returns the exit code.
    pub fn show(self) -> ExitCode {
        say!("{:?}", self.report);
        self.code
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.report.fmt(f)
    }
}

impl From<RunFolderError> for Problem {
    fn from(error: RunFolderError) -> Self {
        Problem::no_environment(error)
    }
}

impl From<Unwritten> for Problem {
    fn from(error: Unwritten) -> Self {
        Problem::new(error.exit_code(), error)
    }
}
