//! `cargo xtask test`.

use harness::exit::ExitCode;

use crate::cli::Test;
use crate::problem::Problem;

/// To come.
pub async fn run(_arguments: Test) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Usage)
}
