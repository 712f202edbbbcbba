//! The outcome of a command, and the end of its run.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use base::exit::ExitCode;
use base::run::Run;
use base::run::event::{Failure, Happening, StageResult};
use serde::Serialize;

use crate::problem::Problem;

/// The outcome of a command.
#[derive(Debug)]
pub struct CommandOutcome {
    /// The exit code.
    pub exit_code: ExitCode,
    /// The answer as one JSON document, if there is one.
    pub document: Option<String>,
    /// The answer for people, in lines.
    pub answer: Vec<String>,
    /// A problem beside the answer.
    pub problem: Option<Problem>,
    /// Further lines for people.
    pub notes: Vec<String>,
}

impl CommandOutcome {
    /// An outcome without an answer.
    pub fn of(exit_code: ExitCode) -> Self {
        CommandOutcome {
            exit_code,
            document: None,
            answer: Vec::new(),
            problem: None,
            notes: Vec::new(),
        }
    }

    /// Sets the document.
    pub fn with_document(mut self, document: &impl Serialize) -> Result<Self, Problem> {
        let text = serde_json::to_string_pretty(document);
        self.document = Some(text.map_err(|error| Problem::system("write JSON", error))?);
        Ok(self)
    }

    /// Adds lines to the answer for people.
    pub fn with_answer(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.answer.extend(lines);
        self
    }

    /// Sets a problem, which is reported beside the answer.
    pub fn with_problem(mut self, problem: Problem) -> Self {
        self.problem = Some(problem);
        self
    }

    /// Adds a note.
    pub fn with_note(mut self, note: impl Display) -> Self {
        self.notes.push(note.to_string());
        self
    }
}

/// Ends the stages of a run that a signal has interrupted.
pub fn interrupted(run: &mut Run, signal: ExitCode) -> Problem {
    match run.end_stages(StageResult::Interrupted) {
        Ok(()) => Problem::ended(signal),
        Err(error) => error.into(),
    }
}

/// Records the failures, and ends the stages of the run.
pub fn failed(
    run: &mut Run,
    exit_code: ExitCode,
    failures: impl IntoIterator<Item = Failure>,
) -> Problem {
    let record = || {
        for failure in failures {
            run.record(Happening::Failed { failure })?;
        }
        run.end_stages(StageResult::Failed)
    };
    match record() {
        Ok(()) => Problem::ended(exit_code),
        Err(error) => error.into(),
    }
}

/// Ends the stages of a run with the result of its checks.
pub fn checked(run: &mut Run) -> Result<(), Problem> {
    run.end_stages(StageResult::of_checks(run.checks()))?;
    held(ExitCode::of_checks(run.checks()))
}

/// Returns a problem unless the exit code is that of success.
pub fn held(exit_code: ExitCode) -> Result<(), Problem> {
    match exit_code {
        ExitCode::Held => Ok(()),
        code => Err(Problem::ended(code)),
    }
}

/// Ends a run and renders its report. Returns the outcome, with the report.
pub fn conclude(mut run: Run, ended: Result<(), Problem>) -> Result<CommandOutcome, Problem> {
    let exit_code = match ended {
        Ok(()) => ExitCode::Held,
        Err(problem) if problem.report().is_some() => return Err(problem),
        Err(problem) => problem.exit_code(),
    };
    run.finish(exit_code)?;
    let outcome = CommandOutcome::of(exit_code);
    match report::render(run.folder()) {
        Ok(report) => {
            let page = run.folder().join("index.html");
            let note = format!("\n{}\nreport: {}", report.headline, page.display());
            let outcome = outcome.with_document(&report)?.with_note(note);
            Ok(match add_to_job_summary(run.folder()) {
                Ok(()) => outcome,
                Err(error) => outcome.with_note(format!("not in the job's summary: {error}")),
            })
        }
        Err(error) if exit_code == ExitCode::Held => Err(Problem::no_environment(error)),
        // A failed run is more important than its report.
        Err(error) => Ok(outcome.with_problem(Problem::no_environment(error))),
    }
}

/// In GitHub Actions, adds the run's summary to that of the job.
fn add_to_job_summary(run_folder: &Path) -> io::Result<()> {
    let Some(file) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty()) else {
        return Ok(());
    };
    let summary = fs::read_to_string(run_folder.join("summary.md"))?;
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    writeln!(file, "{summary}")
}
