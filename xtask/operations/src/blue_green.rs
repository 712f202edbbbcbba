//! Releases of services, from one colour to the other.

mod recorder;
mod release;
mod target;

use base::exit::ExitCode;
use blue_green::{BlueGreenError, Operation, ReleasePlan, ServiceStatus};
use environments::environment::EnvironmentName;
use machine::images::Supply;
use tokio_util::sync::CancellationToken;

use crate::invocation::{Context, Invocation};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;
use release::ReleaseCommand;
use target::{ReleaseTarget, WAITING};

/// The options of `blue-green`.
pub struct Options {
    /// The environment's name.
    pub name: EnvironmentName,
    /// The command.
    pub command: Command,
}

/// A command for services that are released blue-green.
pub enum Command {
    /// Releases a version.
    Deploy(Deploy),
    /// Shows what is live, and the release in progress.
    Status(String),
    /// Switches to the version that waits at the gate.
    Promote(String),
    /// Pauses the release in progress at the gate.
    Pause(String),
    /// Rolls back the release in progress.
    Abort(String),
}

/// The options of a release.
pub struct Deploy {
    /// The services to release together.
    pub services: Vec<String>,
    /// Their version.
    pub version: String,
    /// Whether the release stops at the gate.
    pub manual: bool,
    /// Whether to only show what would be done.
    pub dry_run: bool,
    /// Where images may come from.
    pub supply: Supply,
    /// The id of its record; by default that of the run.
    pub release: Option<String>,
}

/// Runs one of the commands.
pub async fn run(context: &Context, options: &Options) -> Result<CommandOutcome, Problem> {
    let changes = match &options.command {
        Command::Deploy(deploy) => !deploy.dry_run,
        Command::Promote(_) | Command::Pause(_) | Command::Abort(_) => true,
        Command::Status(_) => false,
    };
    let invocation = Invocation::find(context).await?;
    // `target` borrows it.
    let environment;
    let target = match invocation.remote_site() {
        Some(site) => ReleaseTarget::there(&invocation, site, &options.name, changes).await?,
        None => {
            environment = invocation.environment(&options.name)?;
            ReleaseTarget::here(&invocation, &environment).await?
        }
    };
    match &options.command {
        Command::Status(service) => {
            let status = status_of(&target, service).await?;
            let outcome = CommandOutcome::of(ExitCode::Held).with_answer([in_words(&status)]);
            outcome.with_document(&status)
        }
        Command::Deploy(options) if options.dry_run => plan(&target, options).await,
        Command::Deploy(options) => deploy(&target, options).await,
        Command::Promote(service) => change_release(&target, service, Operation::Promote).await,
        Command::Pause(service) => change_release(&target, service, Operation::Pause).await,
        Command::Abort(service) => change_release(&target, service, Operation::Abort).await,
    }
}

async fn status_of(target: &ReleaseTarget<'_>, service: &str) -> Result<ServiceStatus, Problem> {
    let output = &target.invocation.context.output;
    let status = output.waiting(WAITING, ServiceStatus::of(&target.cluster, service));
    status.await.map_err(problem)
}

async fn plan(target: &ReleaseTarget<'_>, deploy: &Deploy) -> Result<CommandOutcome, Problem> {
    let mut plans = Vec::new();
    for released in target.ordered(&deploy.services) {
        let deployer = target.deployer(&released, None, "dry-run", CancellationToken::new());
        let output = &target.invocation.context.output;
        let plan = output.waiting(WAITING, deployer.plan(&deploy.version));
        let plan = plan.await.map_err(problem)?;
        plans.push(plan_in_words(&plan, &released.service, &deploy.version));
    }
    Ok(CommandOutcome::of(ExitCode::Held).with_answer(plans))
}

async fn deploy(target: &ReleaseTarget<'_>, deploy: &Deploy) -> Result<CommandOutcome, Problem> {
    let release = ReleaseCommand {
        target,
        services: target.ordered(&deploy.services),
        operation: Operation::Deploy {
            version: &deploy.version,
            manual: deploy.manual,
        },
        supply: deploy.supply,
        id: deploy.release.as_deref(),
    };
    release.carry_out().await
}

/// Applies the operation to the service, and to all services that are released with it.
async fn change_release(
    target: &ReleaseTarget<'_>,
    service: &str,
    operation: Operation<'_>,
) -> Result<CommandOutcome, Problem> {
    let in_progress = status_of(target, service).await?.under_way;
    let mut services = in_progress
        .map(|record| record.together)
        .unwrap_or_default();
    if services.is_empty() {
        services.push(service.to_owned());
    }
    let release = ReleaseCommand {
        target,
        services: target.ordered(&services),
        operation,
        supply: Supply::Auto,
        id: None,
    };
    release.carry_out().await
}

fn problem(error: BlueGreenError) -> Problem {
    Problem::new(error.exit_code(), error)
}

fn plan_in_words(plan: &ReleasePlan, service: &str, version: &str) -> String {
    let ReleasePlan {
        old_version,
        from,
        to,
        replicas,
        reconfigured,
    } = plan;
    if old_version == version && !reconfigured {
        return format!("{service}: {version} is live already, as {from}: nothing to do");
    }
    let configuration = if *reconfigured {
        " with a new configuration"
    } else {
        ""
    };
    format!(
        "{service}: {old_version} is live as {from}\n\
         would bring up {version} as {to}{configuration}, {replicas} pods; check each of them;\n\
         have the active Service select {to}; compare its traffic with that of {from};\n\
         and take {from} to 0"
    )
}

fn in_words(status: &ServiceStatus) -> String {
    let mut lines = vec![status.service.clone()];
    for side in &status.colours {
        let role = match status.live {
            None => "?   ",
            Some(live) if live == side.colour => "live",
            Some(_) => "idle",
        };
        lines.push(format!(
            "  {:<6} {role}  {:<16} {}/{} ready",
            side.colour.name(),
            side.version,
            side.ready,
            side.wanted
        ));
    }
    if status.live.is_none() {
        lines.push(
            "  the active Service selects neither colour, or both: `blue-green abort` repairs it"
                .into(),
        );
    }
    if status.reconfigured && status.under_way.is_none() {
        lines.push(
            "  the idle colour has another configuration: `blue-green deploy` of what is live releases it"
                .into(),
        );
    }
    match &status.under_way {
        None => lines.push("  no release is in progress".to_owned()),
        Some(record) => {
            lines.push(format!(
                "  release {} of {} is at {} since {:.0}",
                record.release, record.version, record.step, record.since
            ));
            if !record.together.is_empty() {
                lines.push(format!("  together: {}", record.together.join(", ")));
            }
        }
    }
    if let Some(lock) = &status.held {
        lines.push(format!("  locked by {}", lock.holder));
    }
    for entry in status.audit.iter().rev().take(5) {
        let record = &entry.record;
        let why = record.why.as_ref().map(|why| format!(": {why}"));
        lines.push(format!(
            "  {:.0}  {} -> {}  {}{}",
            entry.ended,
            record.old_version,
            record.version,
            entry.outcome,
            why.unwrap_or_default()
        ));
    }
    lines.join("\n")
}
