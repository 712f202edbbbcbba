//! How each version gets to where it is put under load, on targets that are stood up here.

use std::path::PathBuf;

use harness::config::Target;
use harness::environment::EnvironmentFolder;
use harness::exit::ExitCode;
use harness::interrupts::Interrupts;
use harness::rehearsal::Standing;
use harness::run::event::{Stage, StageResult};
use harness::run::{LOGS, Run};
use harness::supervisor::OtherVersion;
use miette::Diagnostic;
use thiserror::Error;

use super::deploy::Site;
use super::e2e::look_first;
use super::perf::{Order, Purpose, Ready, Step, course};
use super::workplace::{Workplace, conclude, interrupts};
use crate::cli;
use crate::problem::Problem;

/// A version that this machine does not have.
#[derive(Debug, Error, Diagnostic)]
#[error("the local target has no version {version:?}: it is not the checkout's, and {} is no file", program.display())]
#[diagnostic(help(
    "build it where it is checked out, and put it there:\n  git worktree add ../other {version}\n  cargo build --release --package platform --manifest-path ../other/Cargo.toml\n  install -D ../other/target/release/platform {}",
    program.display()
))]
struct NoSuchVersion {
    version: String,
    program: PathBuf,
}

/// Makes the runs on a target that is not remote.
pub async fn run(
    place: &Workplace,
    order: &Order<'_>,
    arguments: &cli::Perf,
) -> Result<ExitCode, Problem> {
    match (&order.purpose, place.target()) {
        (Purpose::Versions { a, b, .. }, Target::Local(_)) => {
            let versions = [other(place, a)?, other(place, b)?];
            stood_up_in_turn(place, order, arguments, &versions).await
        }
        (Purpose::Versions { .. }, _) => deployed_in_turn(place, order, arguments).await,
        _ => as_it_is(place, order, arguments).await,
    }
}

/// What is up is put under load, again and again.
async fn as_it_is(
    place: &Workplace,
    order: &Order<'_>,
    arguments: &cli::Perf,
) -> Result<ExitCode, Problem> {
    let named = &arguments.named;
    let (environment, secrets) = place.environment(named)?;
    let mut interrupts = interrupts()?;
    let why = "which is up";
    let mut run = place.start_run_on("perf", &environment.target, &named.name, why)?;
    let ready = Ready {
        environment,
        credentials: secrets.credentials(),
    };
    let there = async |_: &mut Run, _: &mut Interrupts, _: Option<&str>| Ok(Ok(ready.clone()));
    let ended = course(&mut run, place, order, &mut interrupts, there).await?;
    let code = ended.err().unwrap_or(ExitCode::Held);
    run.finish(code)?;
    conclude(&run, code, order.json)
}

/// Each version is deployed to the environment, which stays, and with it the last version.
async fn deployed_in_turn(
    place: &Workplace,
    order: &Order<'_>,
    arguments: &cli::Perf,
) -> Result<ExitCode, Problem> {
    let named = &arguments.named;
    let (environment, secrets) = place.environment(named)?;
    let site = Site::find(place, &environment).await?;
    let folder = EnvironmentFolder::of(&place.home, &named.name);
    let mut interrupts = interrupts()?;
    let why = "which is up and stays";
    let mut run = place.start_run_on("perf", &environment.target, &named.name, why)?;
    let there = async |run: &mut Run, interrupts: &mut Interrupts, version: Option<&str>| {
        if let Some(version) = version
            && let Err(code) = deploy(&site, run, interrupts, version, arguments).await?
        {
            return Ok(Err(code));
        }
        if let Some(version) = version {
            let kept = folder.write_version(version);
            kept.map_err(Problem::no_environment)?;
        }
        let environment = folder.read(&named.name).map_err(Problem::no_environment)?;
        let credentials = secrets.credentials();
        Ok(Ok(Ready {
            environment,
            credentials,
        }))
    };
    let ended = course(&mut run, place, order, &mut interrupts, there).await?;
    let left = folder.read(&named.name).map_err(Problem::no_environment)?;
    let text = format!(
        "the environment {} is left with {}",
        named.name, left.version
    );
    run.note(Stage::Deploy, text)?;
    let code = ended.err().unwrap_or(ExitCode::Held);
    run.finish(code)?;
    conclude(&run, code, order.json)
}

async fn deploy(
    site: &Site<'_>,
    run: &mut Run,
    interrupts: &mut Interrupts,
    version: &str,
    arguments: &cli::Perf,
) -> Step<()> {
    let code = tokio::select! {
        deployed = site.stage(run, version, arguments.images) => return Ok(deployed?),
        code = interrupts.next() => code,
    };
    run.end_stages(StageResult::Interrupted)?;
    let name = &arguments.named.name;
    let text = format!(
        "called off while {version} was being deployed; to have it whole: cargo xtask deploy --version {version} --name {name}"
    );
    run.note(Stage::Deploy, text)?;
    Ok(Err(code))
}

/// Each version is stood up before its run, anew, and taken down after it.
async fn stood_up_in_turn(
    place: &Workplace,
    order: &Order<'_>,
    arguments: &cli::Perf,
    versions: &[Option<OtherVersion>],
) -> Result<ExitCode, Problem> {
    let named = &arguments.named;
    let mut interrupts = interrupts()?;
    let mut run = place.start_run("perf", named)?;
    let variables = match look_first(&mut run, place, &mut interrupts).await? {
        Ok(variables) => variables,
        Err(code) => return conclude(&run, code, order.json),
    };
    let mut standing: Option<Standing> = None;
    let mut number = 0;
    let there = async |run: &mut Run, interrupts: &mut Interrupts, version: Option<&str>| {
        if let Some(before) = standing.take()
            && let Some(code) = before.down(run, interrupts).await?
        {
            return Ok(Err(code));
        }
        number += 1;
        keep_logs_apart(run, number)?;
        let named_so = |it: &&OtherVersion| Some(it.name.as_str()) == version;
        let order = harness::supervisor::Order {
            version: versions.iter().flatten().find(named_so).cloned(),
            ..place.order(run, &named.name, arguments.images)
        };
        let up = Standing::up(run, order, &variables, interrupts).await?;
        Ok(up.map(|up| {
            let ready = Ready {
                environment: up.environment.clone(),
                credentials: up.secrets.credentials(),
            };
            standing = Some(up);
            ready
        }))
    };
    let ended = course(&mut run, place, order, &mut interrupts, there).await;
    // Whatever became of it.
    let down = match standing {
        Some(last) => last.down(&mut run, &mut interrupts).await?,
        None => None,
    };
    let code = match (ended?, down) {
        (_, Some(ExitCode::CleanupIncomplete)) => ExitCode::CleanupIncomplete,
        (Err(code), _) => code,
        (Ok(()), down) => down.unwrap_or(ExitCode::Held),
    };
    run.finish(code)?;
    conclude(&run, code, order.json)
}

/// The program of a version; none is needed of what this checkout is.
fn other(place: &Workplace, version: &str) -> Result<Option<OtherVersion>, Problem> {
    if *version == place.config.platform.version {
        return Ok(None);
    }
    let versions = place.home.versions();
    let program = versions.join(version);
    // A version is a name, not a way out of the folder.
    let is_in_it = program.parent() == Some(&versions);
    match is_in_it && program.is_file() {
        true => Ok(Some(OtherVersion {
            name: version.to_owned(),
            program,
        })),
        false => Err(Problem::usage(NoSuchVersion {
            version: version.to_owned(),
            program,
        })),
    }
}

/// The logs of the `number`th environment are in `logs`, those of the ones before in folders of
/// their own: a service is found by what its log says.
fn keep_logs_apart(run: &Run, number: u32) -> Result<(), Problem> {
    let logs = run.folder().join(LOGS);
    let before = run.folder().join(format!("{LOGS}-{}", number - 1));
    let apart = || match number {
        1 => Ok(()),
        _ => {
            std::fs::rename(&logs, &before)?;
            std::fs::create_dir(&logs)
        }
    };
    apart().map_err(|error| Problem::system(&format!("move {}", logs.display()), error))
}
