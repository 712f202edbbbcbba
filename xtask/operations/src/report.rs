//! Renders a run's report again.

use std::path::Path;

use base::exit::ExitCode;

use crate::invocation::Context;
use crate::outcome::CommandOutcome;
use crate::problem::Problem;

/// Renders the report of this run, or of the latest run.
pub fn run(context: &Context, run: Option<&str>) -> Result<CommandOutcome, Problem> {
    let reports = context.home()?.reports();
    let run = match run {
        Some(run) => run.to_owned(),
        None => latest(&reports).ok_or_else(|| {
            let error = "no run has been recorded there";
            Problem::system(&format!("find a run in {}", reports.display()), error)
        })?,
    };
    let folder = reports.join(run);
    let report = report::render(&folder).map_err(Problem::usage)?;
    let page = folder.join("index.html");
    let note = format!("{}\nreport: {}", report.headline, page.display());
    let outcome = CommandOutcome::of(ExitCode::Held).with_note(note);
    outcome.with_document(&report)
}

/// Returns the latest run: run ids begin with their time.
fn latest(reports: &Path) -> Option<String> {
    let runs = std::fs::read_dir(reports).ok()?.flatten();
    runs.filter_map(|run| run.file_name().into_string().ok())
        .max()
}
