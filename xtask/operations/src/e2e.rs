//! Proves the platform in an environment that it starts, or that is already up.

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::Run;
use base::run::event::{Stage, StageResult};
use environments::environment::EnvironmentName;
use loadtests::closed;
use machine::images::Supply;

use crate::instructions::with_how_to_use;
use crate::invocation::{self, Context, Invocation, RunningEnvironment};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;
use crate::remote;
use crate::reuse::{self, Found, Purpose};
use crate::stages::load::{ProfileLoad, stage};
use crate::stages::preflight;
use crate::stages::verify::{Selection, prove};
use crate::supervised::{Afterwards, Ending, use_environment};

/// Load on a platform that fails its checks would only repeat that.
const NO_LOAD: &str = "the load is not run, because not every check passed";

/// The options of `e2e`.
pub struct Options {
    /// The environment's name.
    pub name: EnvironmentName,
    /// Whether to install missing programs first.
    pub provision: bool,
    /// Whether the environment stays up.
    pub keep: bool,
    /// Scenarios and families; empty for all.
    pub scenarios: Vec<String>,
    /// Where images may come from.
    pub supply: Supply,
}

/// Starts an environment, proves the platform in it, and tears it down.
pub async fn run(context: &Context, options: &Options) -> Result<CommandOutcome, Problem> {
    let name = &options.name;
    let invocation = Invocation::find(context).await?;
    let selection = Selection::of(&invocation, &options.scenarios, false)?;
    if let Some(site) = invocation.remote_site() {
        return remote::e2e(&invocation, site, options.provision, &selection).await;
    }
    let load = load_afterwards(&invocation, &options.scenarios)?;
    let found = reuse::find(&invocation, name).await;
    if let Found::Usable(usable) = &found {
        let purpose = Purpose::Prove(&selection, load.as_ref());
        return reuse::run(&invocation, options.supply, usable, purpose).await;
    }
    invocation.prepare(options.provision).await?;
    // It replaces an environment that had to stay up.
    let stays = options.keep || matches!(found, Found::Unrepairable);
    let afterwards = match stays {
        true => Afterwards::LeaveUp,
        false => Afterwards::TearDown,
    };
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        let variables = preflight::stage(run, &invocation, interrupts).await?;
        let order = invocation.order(run, name, options.supply);
        let work = async |run: &mut Run, running: &RunningEnvironment| {
            prove(run, &invocation, running, &selection).await?;
            let held = ExitCode::of_checks(run.checks()) == ExitCode::Held;
            if load.is_some() && !held {
                run.note(Stage::Verify, NO_LOAD)?;
            }
            run.end_stages(StageResult::of_checks(run.checks()))?;
            let Some(load) = load.as_ref().filter(|_| held) else {
                return Ok(());
            };
            // `use_environment` listens as well: a signal ends this work.
            let interrupts = &mut invocation::interrupts().map_err(Ending::of)?;
            let loaded = stage(run, &invocation, &load.order(), running, interrupts).await;
            loaded.map_err(Ending::of)
        };
        use_environment(run, order, &variables, interrupts, afterwards, work).await
    };
    let outcome = invocation.perform("e2e", name, stages).await?;
    let proven = matches!(
        outcome.exit_code,
        ExitCode::Held | ExitCode::CheckFailed | ExitCode::Inconclusive
    );
    Ok(match stays && proven {
        true => with_how_to_use(outcome, &invocation, name),
        false => outcome,
    })
}

/// Returns the load that `load.e2e` names. A run of chosen scenarios has none.
fn load_afterwards<'a>(
    invocation: &'a Invocation,
    scenarios: &[String],
) -> Result<Option<ProfileLoad<'a>>, Problem> {
    let Some(profile) = invocation.config.load.e2e.as_ref() else {
        return Ok(None);
    };
    if !scenarios.is_empty() {
        return Ok(None);
    }
    closed::keep_sigint().map_err(|error| Problem::system("listen for signals", error))?;
    ProfileLoad::read(invocation, profile).map(Some)
}
