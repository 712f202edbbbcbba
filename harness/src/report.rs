//! The report: what a run's events say, in the forms people and CI read.
//!
//! It is rendered from the run folder alone, so it can be made again later:
//!
//! | file | for whom |
//! |---|---|
//! | `report.json` | programs: [`Report`], a versioned schema |
//! | `junit.xml` | CI |
//! | `summary.md` | whoever opens the CI job |
//! | `index.html` | everybody, offline |

mod events;
mod fold;
mod html;
mod junit;
mod links;
mod model;
mod summary;
mod verdict;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use events::EVENTS_FILE;
pub use model::{
    LostPart, Report, RunFailure, ScenarioReport, ScenarioResult, StageEnd, StageReport, StepReport,
};
pub use verdict::Verdict;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ReportError {
    /// The folder has no record of a run.
    #[error("no run is recorded in {}: {EVENTS_FILE} is not there", folder.display())]
    #[diagnostic(
        code(report::no_run),
        help(
            "give the id of a run, the name of a folder in target/reports; list them with `ls -t target/reports`"
        )
    )]
    NoRun {
        /// The folder that was looked into.
        folder: PathBuf,
    },
    /// The record is there and could not be read.
    #[error("{} could not be read", path.display())]
    #[diagnostic(
        code(report::unreadable),
        help("look at its owner and mode with `ls -l {}`", path.display())
    )]
    Unreadable {
        /// The record.
        path: PathBuf,
        /// What the system said.
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
        /// What is wrong with it.
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
        /// The file that was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the report could not be written.
    #[error("{} could not be written", path.display())]
    #[diagnostic(
        code(report::unwritable),
        help(
            "make the folder writable (`ls -ld {}` shows who may), then render again: the run's record is kept",
            folder_of(path).display()
        )
    )]
    Unwritable {
        /// The file that was being written.
        path: PathBuf,
        /// What the system said.
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
/// A run that is still going, or was killed, renders as unfinished. Each file is
/// replaced whole or not at all. Blocks on the file system.
///
/// # Errors
///
/// When the folder holds no record, when a line of it is not an event (a last line
/// torn by a kill is tolerated and noted), or when a file cannot be written.
pub fn render(run_folder: &Path) -> Result<Report, ReportError> {
    let record = events::read(run_folder)?;
    let mut report = Report::from_events(&record.events);
    report.torn_line = record.torn_line;
    if report.run.is_empty() {
        // Killed before its first event: the folder still carries the run's name.
        report.run = folder_name(run_folder);
    }
    write(run_folder, "report.json", json(&report))?;
    write(run_folder, "junit.xml", junit::render(&report))?;
    write(run_folder, "summary.md", Ok(summary::render(&report)))?;
    write(run_folder, "index.html", Ok(html::render(&report)))?;
    Ok(report)
}

fn json(report: &Report) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// Puts one file of the report in its place, whole or not at all.
fn write(folder: &Path, name: &str, content: io::Result<String>) -> Result<(), ReportError> {
    let path = folder.join(name);
    content
        .and_then(|content| replace(&path, content.as_bytes()))
        .map_err(|source| ReportError::writing(&path, source))
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(".report-")
        .permissions(readable_by_all())
        .tempfile_in(folder_of(path))?;
    file.write_all(content)?;
    // Before the rename: a crash after it must not leave an empty file under the name.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// What a file usually gets before the umask; a temporary file's default, 0600, would
/// keep CI from collecting the report under another user.
fn readable_by_all() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn folder_name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    name.to_string_lossy().into_owned()
}
