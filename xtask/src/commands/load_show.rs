//! `cargo xtask load show`.

use std::path::Path;

use harness::exit::ExitCode;
use loadtests::shown;

use crate::problem::Problem;

/// Shows a load result, or a raw log.
pub fn show(file: &Path) -> Result<ExitCode, Problem> {
    let shown = shown::read(file).map_err(Problem::usage)?;
    for line in &shown.lines {
        print_line!("{line}");
    }
    match shown.not_whole {
        None => Ok(ExitCode::Held),
        Some(why) => Err(Problem::new(ExitCode::CheckFailed, why)),
    }
}
