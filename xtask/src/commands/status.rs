//! `cargo xtask status`.

use harness::environment::{Environment, EnvironmentFolder};
use harness::exit::ExitCode;
use harness::status::{self, Condition};

use super::workplace::{home, print_json};
use crate::cli::Status;
use crate::console::Console;
use crate::problem::Problem;

/// Shows the environments that are up.
pub async fn run(arguments: Status) -> Result<ExitCode, Problem> {
    let common = &arguments.common;
    let home = home(&common.places)?;
    let mut all = Vec::new();
    for name in EnvironmentFolder::all(&home) {
        if arguments.name.as_ref().is_none_or(|wanted| *wanted == name) {
            let what = format!("asking {name} how it is");
            all.push(Console::waiting(&what, status::of(&home, &name)).await);
        }
    }
    if let Some(target) = &common.target {
        let of_target = |environment: &Environment| environment.target == *target;
        all.retain(|one| one.environment.as_ref().is_none_or(of_target));
    }
    if common.json {
        print_json(&all)?;
    }
    for environment in &all {
        say!("{environment}");
    }
    if all.is_empty() {
        say!("nothing is up; `cargo xtask up` changes that");
    }
    let well = all
        .iter()
        .all(|one| matches!(one.condition, Condition::Up | Condition::Starting));
    Ok(match well {
        true => ExitCode::Held,
        false => ExitCode::CheckFailed,
    })
}
