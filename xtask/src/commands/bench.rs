//! `cargo xtask bench`.

use harness::exit::ExitCode;

use crate::cli::Bench;
use crate::problem::Problem;

/// To come.
pub async fn run(_arguments: Bench) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Usage)
}
