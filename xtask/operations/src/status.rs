//! Reports the condition of the environments that are up.

use base::exit::ExitCode;
use environments::environment::{Environment, EnvironmentFolder, EnvironmentName};
use environments::status::{self, Condition};

use crate::invocation::Context;
use crate::outcome::CommandOutcome;
use crate::problem::Problem;

/// Inspects the environments that are up, or only that of this name. If the command line has a
/// target, inspects only those of that target.
pub async fn run(
    context: &Context,
    name: Option<&EnvironmentName>,
) -> Result<CommandOutcome, Problem> {
    let home = context.home()?;
    let mut all = Vec::new();
    for found in EnvironmentFolder::all(&home) {
        if name.is_none_or(|name| *name == found) {
            let status = status::of(&home, &found);
            let activity = format!("checking {found}");
            all.push(context.output.waiting(&activity, status).await);
        }
    }
    if let Some(target) = &context.target {
        let of_target = |environment: &Environment| environment.target == *target;
        all.retain(|one| one.environment.as_ref().is_none_or(of_target));
    }
    let well = all
        .iter()
        .all(|one| matches!(one.condition, Condition::Up | Condition::Starting));
    let mut outcome = CommandOutcome::of(match well {
        true => ExitCode::Held,
        false => ExitCode::CheckFailed,
    });
    outcome.notes.extend(all.iter().map(ToString::to_string));
    if all.is_empty() {
        outcome = outcome.with_note("nothing is up; `cargo xtask up` changes that");
    }
    outcome.with_document(&all)
}
