//! Puts load on an environment that is up, and shows and compares load results.

use std::path::{Path, PathBuf};

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::Run;
use environments::environment::EnvironmentName;
use loadtests::regression::Settings;
use loadtests::show::ShowFormat;
use loadtests::{closed, compare, show};

use crate::comparison::ComparisonDocument;
use crate::invocation::{Context, Invocation};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;
use crate::remote::{self, Then};
use crate::stages::load::{LoadOrder, ProfileLoad, check, check_environment, check_remote, stage};

/// The options of `load run`.
pub struct Options {
    /// The environment's name.
    pub name: EnvironmentName,
    /// The profile's name.
    pub profile: String,
    /// The file for k6's stream.
    pub out: Option<PathBuf>,
    /// The file for k6's summary.
    pub summary_export: Option<PathBuf>,
    /// The number of generators in the cluster. Without it, this process sends the load.
    pub generators: Option<u16>,
}

/// Runs a profile against an environment that is up.
pub async fn run(context: &Context, options: &Options) -> Result<CommandOutcome, Problem> {
    let invocation = Invocation::find(context).await?;
    let load = ProfileLoad::read(&invocation, &options.profile)?;
    let order = LoadOrder {
        out: options.out.as_deref(),
        summary_export: options.summary_export.as_deref(),
        generators: options.generators,
        ..load.order()
    };
    check(&order)?;
    closed::keep_sigint().map_err(|error| Problem::system("listen for signals", error))?;
    if let Some(site) = invocation.remote_site() {
        if order.generators.is_some() {
            check_remote(site)?;
        }
        return remote::work_as_it_is(&invocation, site, "load", Then::Load(&order)).await;
    }
    let running = invocation.running(&options.name)?;
    if order.generators.is_some() {
        check_environment(&running.environment)?;
    }
    let there = (running.environment.target.as_str(), &options.name);
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        stage(run, &invocation, &order, &running, interrupts).await
    };
    invocation
        .perform_on("load", there, "which is up", stages)
        .await
}

/// Shows a load result, or a raw log; with a format, a result as another tool has it.
pub fn show(file: &Path, format: Option<ShowFormat>) -> Result<CommandOutcome, Problem> {
    if let Some(format) = format {
        let lines = show::formatted(file, format).map_err(Problem::usage)?;
        return Ok(CommandOutcome::of(ExitCode::Held).with_answer(lines));
    }
    let shown = show::read(file).map_err(Problem::usage)?;
    let outcome = match shown.incomplete {
        None => CommandOutcome::of(ExitCode::Held),
        Some(why) => {
            let problem = Problem::new(ExitCode::CheckFailed, why);
            CommandOutcome::of(problem.exit_code()).with_problem(problem)
        }
    };
    Ok(outcome.with_answer(shown.lines))
}

/// Compares stored load results.
pub fn compare(a: &Path, b: &Path) -> Result<CommandOutcome, Problem> {
    let comparison = compare::compare(a, b, &Settings::default()).map_err(Problem::usage)?;
    let outcome = CommandOutcome::of(comparison.exit_code());
    outcome
        .with_answer([comparison.to_string().trim_end().to_owned()])
        .with_document(&ComparisonDocument::of(&comparison))
}
