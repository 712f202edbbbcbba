//! An environment on a cluster that is up already: used again instead of a new one.

use harness::down;
use harness::environment::{Environment, EnvironmentFolder, EnvironmentName};
use harness::exit::ExitCode;
use harness::kind::health;
use harness::run::event::{Stage, StageResult};
use harness::run::{Run, RunFolderError};

use super::deploy::Site;
use super::verify;
use super::workplace::{Workplace, conclude, interrupts};
use crate::cli::E2e;
use crate::problem::Problem;

/// The environment of this name, if it stays up on a cluster of the target that is asked
/// for. One whose cluster is past help is taken down first, and the reason told.
pub async fn find(
    place: &Workplace,
    name: &EnvironmentName,
) -> Result<Option<Environment>, Problem> {
    let folder = EnvironmentFolder::of(&place.home, name);
    let Ok(environment) = folder.read(name) else {
        return Ok(None);
    };
    let Some(cluster) = &environment.cluster else {
        return Ok(None);
    };
    if !environment.stays || environment.target != place.target_name {
        return Ok(None);
    }
    let mut trouble = health::look(&environment, cluster).await.cluster;
    trouble.extend(environment.lost.iter().cloned());
    if trouble.is_empty() {
        return Ok(Some(environment));
    }
    say!(
        "{name} is up but past help ({}): it is made anew",
        trouble.join("; ")
    );
    down::one(&place.home, name, None).await;
    Ok(None)
}

/// Deploys the checkout to the environment, proves it, and leaves it up.
pub async fn prove(
    place: &Workplace,
    arguments: &E2e,
    environment: &Environment,
) -> Result<ExitCode, Problem> {
    let named = &arguments.named;
    let site = Site::find(place, environment).await?;
    let mut interrupts = interrupts()?;
    let why = "which is up and stays";
    let mut run = place.start_run_on("e2e", &environment.target, &named.name, why)?;
    let course = course(&mut run, place, &site, arguments, environment);
    let ended = tokio::select! {
        ended = course => ended?,
        code = interrupts.next() => {
            verify::leave(environment).await;
            run.end_stages(StageResult::Interrupted)?;
            code
        }
    };
    run.finish(ended)?;
    conclude(&run, ended, named.common.json)
}

async fn course(
    run: &mut Run,
    place: &Workplace,
    site: &Site<'_>,
    arguments: &E2e,
    environment: &Environment,
) -> Result<ExitCode, Problem> {
    let name = &arguments.named.name;
    preflight(run, environment).await?;
    let version = &place.config.platform.version;
    if let Err(code) = site.stage(run, version, arguments.images).await? {
        return Ok(code);
    }
    let folder = EnvironmentFolder::of(&place.home, name);
    let kept = folder.write_version(version);
    kept.map_err(Problem::no_environment)?;
    let environment = folder.read(name).map_err(Problem::no_environment)?;
    let secrets = folder.read_secrets(name).map_err(Problem::no_environment)?;
    verify::prove(run, place, &environment, &secrets.credentials()).await?;
    run.end_stages(StageResult::of_checks(run.failed_checks()))?;
    Ok(match run.failed_checks() {
        0 => ExitCode::Held,
        _ => ExitCode::CheckFailed,
    })
}

/// What is wrong with the platform is what deploying it mends.
async fn preflight(run: &mut Run, environment: &Environment) -> Result<(), RunFolderError> {
    run.begin(Stage::Preflight)?;
    let cluster = environment.cluster.as_ref();
    let found = match cluster {
        Some(cluster) => health::look(environment, cluster).await.platform,
        None => Vec::new(),
    };
    match found.is_empty() {
        true => run.note(
            Stage::Preflight,
            "the cluster answers, the platform is well",
        )?,
        false => {
            let text = format!("deployed anew to mend it: {}", found.join("; "));
            run.note(Stage::Preflight, &text)?;
        }
    }
    run.end_stages(StageResult::Done)
}
