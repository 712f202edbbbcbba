//! `cargo xtask blue-green`: releases of services, from one colour to the other.

mod recorder;
mod release;
mod target;

use harness::blue_green::{Ask, BlueGreenError, Plan, Status};
use harness::environment::EnvironmentFolder;
use harness::exit::ExitCode;
use tokio_util::sync::CancellationToken;

use super::remote;
use super::workplace::{Workplace, print_json};
use crate::cli::{BlueGreen, BlueGreenCommand, BlueGreenDeploy, BlueGreenService, Supply};
use crate::console::Console;
use crate::problem::Problem;
use release::ReleaseCommand;
use target::ReleaseTarget;

/// What is waited for where the API server takes its time.
const ASKING: &str = "asking the cluster";

/// Runs one of the commands.
pub async fn run(arguments: BlueGreen) -> Result<ExitCode, Problem> {
    let (named, change) = match &arguments.command {
        BlueGreenCommand::Deploy(deploy) => (&deploy.named, !deploy.dry_run),
        BlueGreenCommand::Promote(of)
        | BlueGreenCommand::Pause(of)
        | BlueGreenCommand::Abort(of) => (&of.named, true),
        BlueGreenCommand::Status(of) => (&of.named, false),
    };
    let workplace = Workplace::find(&named.common).await?;
    // Outlives what is found of it.
    let environment;
    let target = match remote::site(&workplace) {
        Some(site) => ReleaseTarget::there(&workplace, site, change).await?,
        None => {
            let folder = EnvironmentFolder::of(&workplace.home, &named.name);
            environment = folder.read(&named.name).map_err(Problem::no_environment)?;
            ReleaseTarget::here(&workplace, &environment).await?
        }
    };
    match &arguments.command {
        BlueGreenCommand::Status(of) => status(&target, of).await,
        BlueGreenCommand::Deploy(it) if it.dry_run => plan(&target, it).await,
        BlueGreenCommand::Deploy(it) => deploy(&target, it).await,
        BlueGreenCommand::Promote(of) => change_release(&target, of, Ask::Promote).await,
        BlueGreenCommand::Pause(of) => change_release(&target, of, Ask::Pause).await,
        BlueGreenCommand::Abort(of) => change_release(&target, of, Ask::Abort).await,
    }
}

async fn status(target: &ReleaseTarget<'_>, of: &BlueGreenService) -> Result<ExitCode, Problem> {
    let status = status_of(target, &of.service).await?;
    match of.named.common.json {
        true => print_json(&status)?,
        false => print_line!("{}", in_words(&status)),
    }
    Ok(ExitCode::Held)
}

async fn status_of(target: &ReleaseTarget<'_>, service: &str) -> Result<Status, Problem> {
    let status = Console::waiting(ASKING, Status::of(&target.cluster, service)).await;
    status.map_err(problem)
}

async fn plan(target: &ReleaseTarget<'_>, deploy: &BlueGreenDeploy) -> Result<ExitCode, Problem> {
    for released in target.ordered(&deploy.service) {
        let deployer = target.deployer(&released, None, "dry-run", CancellationToken::new());
        let plan = Console::waiting(ASKING, deployer.plan(&deploy.version)).await;
        let plan = plan.map_err(problem)?;
        let words = plan_in_words(&plan, &released.service, &deploy.version);
        print_line!("{words}");
    }
    Ok(ExitCode::Held)
}

async fn deploy(target: &ReleaseTarget<'_>, deploy: &BlueGreenDeploy) -> Result<ExitCode, Problem> {
    let release = ReleaseCommand {
        target,
        named: &deploy.named,
        services: target.ordered(&deploy.service),
        ask: Ask::Deploy {
            version: &deploy.version,
            manual: deploy.manual,
        },
        supply: deploy.images,
        id: deploy.release.as_deref(),
    };
    release.carry_out().await
}

/// What is asked of one service is asked of all that are released with it.
async fn change_release(
    target: &ReleaseTarget<'_>,
    of: &BlueGreenService,
    ask: Ask<'_>,
) -> Result<ExitCode, Problem> {
    let under_way = status_of(target, &of.service).await?.under_way;
    let mut services = under_way.map(|it| it.together).unwrap_or_default();
    if services.is_empty() {
        services.push(of.service.clone());
    }
    let release = ReleaseCommand {
        target,
        named: &of.named,
        services: target.ordered(&services),
        ask,
        supply: Supply::Auto,
        id: None,
    };
    release.carry_out().await
}

fn problem(error: BlueGreenError) -> Problem {
    Problem::new(error.exit_code(), error)
}

fn plan_in_words(plan: &Plan, service: &str, version: &str) -> String {
    let Plan {
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

fn in_words(status: &Status) -> String {
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
            "  the active Service selects neither colour, or both: `blue-green abort` mends it"
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
        None => lines.push("  no release is under way".to_owned()),
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
    if let Some(held) = &status.held {
        lines.push(format!("  locked by {}", held.holder));
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
