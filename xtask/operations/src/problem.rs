//! Why a command ends early, and its exit code.

use base::exit::ExitCode;
use base::run::RunFolderError;
use environments::remote::RemoteError;
use miette::{Diagnostic, Report, miette};

/// Why a command ends early.
#[derive(Debug)]
pub struct Problem {
    exit_code: ExitCode,
    /// None if the run has recorded the failure, or a signal ended the command.
    report: Option<Report>,
}

impl Problem {
    /// An error with an exit code.
    pub fn new(exit_code: ExitCode, error: impl Diagnostic + Send + Sync + 'static) -> Self {
        let report = Some(Report::new(error));
        Problem { exit_code, report }
    }

    /// A problem without a report: the run has recorded the failure, or a signal ended the command.
    pub fn ended(exit_code: ExitCode) -> Self {
        Problem {
            exit_code,
            report: None,
        }
    }

    /// Bad usage or configuration.
    pub fn usage(error: impl Diagnostic + Send + Sync + 'static) -> Self {
        Problem::new(ExitCode::Usage, error)
    }

    /// The environment is not available.
    pub fn no_environment(error: impl Diagnostic + Send + Sync + 'static) -> Self {
        Problem::new(ExitCode::NoEnvironment, error)
    }

    /// An error of the operating system. `what` completes "cannot ...".
    pub fn system(what: &str, error: impl std::fmt::Display) -> Self {
        let report = miette!(
            help = "`cargo xtask doctor` reports what this machine lacks",
            "cannot {what}: {error}"
        );
        Problem {
            exit_code: ExitCode::NoEnvironment,
            report: Some(report),
        }
    }

    /// The exit code of the command.
    pub fn exit_code(&self) -> ExitCode {
        self.exit_code
    }

    /// The report to show, if there is one.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.report {
            Some(report) => report.fmt(f),
            None => f.write_str(self.exit_code.meaning()),
        }
    }
}

impl From<RunFolderError> for Problem {
    fn from(error: RunFolderError) -> Self {
        Problem::no_environment(error)
    }
}

impl From<RemoteError> for Problem {
    fn from(error: RemoteError) -> Self {
        Problem::new(error.exit_code(), error)
    }
}
