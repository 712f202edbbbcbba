//! Starts an environment and leaves it up.

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::Run;
use environments::environment::{Environment, EnvironmentName};
use environments::status::{self, Condition};
use machine::images::Supply;

use crate::instructions::with_how_to_use;
use crate::invocation::{Context, Invocation};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;
use crate::reuse::{self, Found, Purpose};
use crate::stages::preflight;
use crate::supervised::{Afterwards, use_environment};

/// Starts the environment, or repairs it if it is already up on a cluster.
pub async fn run(
    context: &Context,
    name: &EnvironmentName,
    provision: bool,
    supply: Supply,
) -> Result<CommandOutcome, Problem> {
    let invocation = Invocation::find(context).await?;
    invocation.refuse_remote("up")?;
    match reuse::find(&invocation, name).await {
        Found::Usable(usable) if usable.unwell.is_empty() => {
            return is_up(CommandOutcome::of(ExitCode::Held), &invocation, name);
        }
        Found::Usable(usable) => {
            let outcome = reuse::run(&invocation, supply, &usable, Purpose::Repair).await?;
            return is_up(outcome, &invocation, name);
        }
        Found::Unrepairable => {}
        Found::Nothing => {
            if let Some(outcome) = already_up(&invocation, name).await? {
                return Ok(outcome);
            }
        }
    }
    invocation.prepare(provision).await?;
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        let variables = preflight::stage(run, &invocation, interrupts).await?;
        let order = invocation.order(run, name, supply);
        let (stays, nothing) = (Afterwards::LeaveUp, async |_: &mut _, _: &_| Ok(()));
        use_environment(run, order, &variables, interrupts, stays, nothing).await
    };
    let outcome = invocation.perform("up", name, stages).await?;
    is_up(outcome, &invocation, name)
}

/// Returns the outcome if the name is in use, or none if it is free.
async fn already_up(
    invocation: &Invocation,
    name: &EnvironmentName,
) -> Result<Option<CommandOutcome>, Problem> {
    let status = status::of(&invocation.home, name).await;
    let is_requested = |environment: &Environment| {
        environment.stays
            && environment.target == invocation.target_name
            && environment.version == invocation.config.platform.version
    };
    match (status.condition, &status.environment) {
        // If the condition is not known, the start reports why it is refused.
        (Condition::Dead | Condition::Undecided, _) => Ok(None),
        (Condition::Up, Some(environment)) if is_requested(environment) => {
            is_up(CommandOutcome::of(ExitCode::Held), invocation, name).map(Some)
        }
        (Condition::Degraded, Some(environment)) if environment.stays => {
            let next = format!("{status}\nnext:    cargo xtask down --name {name}");
            Ok(Some(
                CommandOutcome::of(ExitCode::CheckFailed).with_note(next),
            ))
        }
        _ => Err(Problem::no_environment(
            invocation.folder(name).in_use(name),
        )),
    }
}

/// Adds the environment's document and how to use it, if the outcome has no failure.
fn is_up(
    outcome: CommandOutcome,
    invocation: &Invocation,
    name: &EnvironmentName,
) -> Result<CommandOutcome, Problem> {
    if outcome.exit_code != ExitCode::Held {
        return Ok(outcome);
    }
    let environment = invocation.environment(name)?;
    with_how_to_use(outcome, invocation, name).with_document(&environment)
}
