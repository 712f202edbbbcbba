//! `cargo xtask report`.

use harness::exit::ExitCode;

use super::workplace::{home, print_json};
use crate::cli::ReportArguments;
use crate::problem::Problem;

/// Renders a run's report again.
pub async fn run(arguments: ReportArguments) -> Result<ExitCode, Problem> {
    let reports = home(&arguments.places)?.reports();
    let run = match arguments.run {
        Some(run) => run,
        None => latest(&reports).ok_or_else(|| {
            let error = "no run has been recorded there";
            Problem::system(&format!("find a run in {}", reports.display()), error)
        })?,
    };
    let folder = reports.join(run);
    let report = harness::report::render(&folder).map_err(Problem::usage)?;
    if arguments.json {
        print_json(&report)?;
    }
    say!(
        "{}\nreport: {}",
        report.headline(),
        folder.join("index.html").display()
    );
    Ok(ExitCode::Held)
}

/// Run ids begin with their time.
fn latest(reports: &std::path::Path) -> Option<String> {
    let runs = std::fs::read_dir(reports).ok()?.flatten();
    runs.filter_map(|run| run.file_name().into_string().ok())
        .max()
}
