//! Renders a run's events as a report, for people and for CI.
//!
//! It needs the run folder only, so it can render the report again at any time:
//!
//! | file | readers |
//! |---|---|
//! | `report.json` | programs: [`Report`], a versioned schema |
//! | `junit.xml` | CI |
//! | `metrics.txt` | charts over many runs: OpenMetrics |
//! | `summary.md` | the summary of a CI job |
//! | `index.html` | people, offline |

mod critical_path;
mod events;
mod from_events;
mod html;
mod junit;
mod links;
mod model;
mod openmetrics;
mod summary;
mod tone;
mod verdict;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base::run::EVENTS;
pub use model::{
    Checkout, CriticalPart, LostPart, Report, RunFailure, RunVerdict, ScenarioReport,
    ScenarioResult, StageEnd, StageReport, StepReport,
};
pub use openmetrics::load_metrics;

/// A report cannot be rendered.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ReportError {
    /// The folder has no record of a run.
    #[error("no run is recorded in {}: {EVENTS} does not exist", folder.display())]
    #[diagnostic(
        code(report::no_run),
        help(
            "give the id of a run, the name of a folder in target/reports; list them with `ls -t target/reports`"
        )
    )]
    NoRun {
        /// The folder.
        folder: PathBuf,
    },
    /// The record cannot be read.
    #[error("{} could not be read", path.display())]
    #[diagnostic(
        code(report::unreadable),
        help("look at its owner and mode with `ls -l {}`", path.display())
    )]
    Unreadable {
        /// The record.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A line of the record is not an event.
    #[error("{}:{line} is not an event", path.display())]
    #[diagnostic(
        code(report::malformed),
        help(
            "the file was edited, or written by another version of the harness; see the line with `sed -n {line}p {}`",
            path.display()
        )
    )]
    Malformed {
        /// The record.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
    /// No space is left for the report.
    #[error("no space is left to write {}", path.display())]
    #[diagnostic(
        code(report::disk_full),
        help(
            "free space there (`df -h {}` shows how much is left), then render again: the run's record is kept",
            folder_of(path).display()
        )
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file of the report cannot be written.
    #[error("{} could not be written", path.display())]
    #[diagnostic(
        code(report::unwritable),
        help(
            "make the folder writable (`ls -ld {}` shows who may), then render again: the run's record is kept",
            folder_of(path).display()
        )
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl ReportError {
    fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ReportError::DiskFull { path, source }
            }
            _ => ReportError::Unwritable { path, source },
        }
    }
}

/// Renders the report of the run recorded in `run_folder`, into that folder.
///
/// A run that is still running, or was killed, renders as unfinished. Each file is replaced
/// atomically. Blocks on the file system.
///
/// # Errors
///
/// If the folder has no record, a line of the record is not an event, or a file cannot be written.
/// An incomplete last line, from a kill, is not an error: the report mentions it.
pub fn render(run_folder: &Path) -> Result<Report, ReportError> {
    let record = events::read(run_folder)?;
    let mut report = Report::from_events(&record.events);
    report.torn_line = record.torn_line;
    if report.run.is_empty() {
        // Killed before its first event: the folder has the run's name.
        let name = run_folder.file_name().unwrap_or(run_folder.as_os_str());
        report.run = name.to_string_lossy().into_owned();
    }
    write(run_folder, "report.json", json(&report))?;
    write(run_folder, "junit.xml", junit::render(&report))?;
    let metrics = openmetrics::render(&report).map_err(io::Error::other);
    write(run_folder, "metrics.txt", metrics)?;
    write(run_folder, "summary.md", Ok(summary::render(&report)))?;
    write(run_folder, "index.html", Ok(html::render(&report)))?;
    Ok(report)
}

fn json(report: &Report) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// Replaces one file of the report atomically.
fn write(folder: &Path, name: &str, content: io::Result<String>) -> Result<(), ReportError> {
    let path = folder.join(name);
    content
        .and_then(|content| replace(&path, content.as_bytes()))
        .map_err(|source| ReportError::writing(&path, source))
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // The usual mode before the umask. With the default of temporary files, 0600, CI could not
    // collect the report as another user.
    let permissions = std::fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new()
        .prefix(".report-")
        .permissions(permissions)
        .tempfile_in(folder_of(path))?;
    file.write_all(content)?;
    // Before the rename, so that a crash after it does not leave an empty file.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}
