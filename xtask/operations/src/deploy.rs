//! Deploys a version of the platform, or shows what that would change.

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::Run;
use environments::environment::EnvironmentName;
use machine::images::Supply;

use crate::invocation::{Context, Invocation, interrupts};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;
use crate::remote;
use crate::stages::redeploy::KindDeployment;

/// The options of `deploy`.
pub struct Options {
    /// The environment's name.
    pub name: EnvironmentName,
    /// The version; by default that of the configuration.
    pub version: Option<String>,
    /// Whether to only show what would change.
    pub dry_run: bool,
    /// Where images may come from.
    pub supply: Supply,
}

/// Deploys the version, or shows what that would change.
pub async fn run(context: &Context, options: &Options) -> Result<CommandOutcome, Problem> {
    let name = &options.name;
    let invocation = Invocation::find(context).await?;
    let configured = &invocation.config.platform.version;
    let version = options.version.as_ref().unwrap_or(configured);
    if let Some(site) = invocation.remote_site() {
        return match options.dry_run {
            true => show(&invocation, remote::difference(&invocation, site, version)).await,
            false => {
                let outcome = remote::deploy(&invocation, site, version).await?;
                Ok(with_next(outcome, &format!("--target {}", site.name)))
            }
        };
    }
    let environment = invocation.environment(name)?;
    let deployment = KindDeployment::find(&invocation, &environment).await?;
    if options.dry_run {
        return show(&invocation, deployment.difference(version, options.supply)).await;
    }
    let there = (environment.target.as_str(), name);
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        let supply = options.supply;
        deployment.deploy(run, version, supply, interrupts).await
    };
    let performed = invocation.perform_on("deploy", there, "which is up", stages);
    Ok(with_next(performed.await?, &format!("--name {name}")))
}

async fn show(
    invocation: &Invocation,
    difference: impl Future<Output = Result<String, Problem>>,
) -> Result<CommandOutcome, Problem> {
    let mut interrupts = interrupts()?;
    let activity = "comparing with the cluster";
    let difference = tokio::select! {
        difference = invocation.context.output.waiting(activity, difference) => difference?,
        signal = interrupts.next() => return Err(Problem::ended(signal)),
    };
    Ok(CommandOutcome::of(ExitCode::Held).with_answer([difference.trim_end().to_owned()]))
}

fn with_next(outcome: CommandOutcome, environment: &str) -> CommandOutcome {
    match outcome.exit_code {
        ExitCode::Held => outcome.with_note(format!("next:    cargo xtask smoke {environment}")),
        _ => outcome,
    }
}
