//! `cargo xtask status`.

use harness::environment::EnvironmentFolder;
use harness::exit::ExitCode;
use harness::status::{self, Condition};

use super::workplace::{home, print_json};
use crate::cli::Common;
use crate::problem::Problem;

/// Shows the environments that are up.
pub async fn run(common: Common) -> Result<ExitCode, Problem> {
    let home = home(&common.places)?;
    let mut all = Vec::new();
    for name in EnvironmentFolder::all(&home) {
        all.push(status::of(&home, &name).await);
    }
    if common.json {
        print_json(&all)?;
    }
    for environment in &all {
        eprintln!("{environment}");
    }
    if all.is_empty() {
        eprintln!("nothing is up; `cargo xtask up` changes that");
    }
    let well = all
        .iter()
        .all(|one| matches!(one.condition, Condition::Up | Condition::Starting));
    Ok(match well {
        true => ExitCode::Held,
        false => ExitCode::CheckFailed,
    })
}
