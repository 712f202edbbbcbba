//! An environment on a cluster that is up already: used again instead of a new one.

use harness::down;
use harness::environment::{Environment, EnvironmentFolder, EnvironmentName};
use harness::exit::ExitCode;
use harness::kind::repair::repair;
use harness::run::event::{Stage, StageResult};
use harness::run::{Run, RunFolderError};

use super::deploy::Site;
use super::verify::{self, Selection};
use super::workplace::{Workplace, conclude, interrupts};
use crate::cli::{self, Named};
use crate::console::Console;
use crate::problem::Problem;

/// What is found under a name.
pub enum Found {
    /// An environment that stays up, on a cluster of the target that is asked for.
    Usable(Box<Usable>),
    /// There was one whose cluster was past help. It is down now; the reason was told.
    PastHelp,
    /// Nothing of the kind.
    Nothing,
}

/// An environment that can be used again.
pub struct Usable {
    /// The environment.
    pub environment: Environment,
    /// What is wrong with the platform on it, or with its version: deploying mends it.
    pub unwell: Vec<String>,
}

/// What a cluster that is up is used again for.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// The checkout is deployed, and this is proven of it.
    Prove(&'a Selection),
    /// The checkout is deployed.
    Mend,
}

/// Looks for an environment of this name to use again.
pub async fn find(place: &Workplace, name: &EnvironmentName) -> Result<Found, Problem> {
    let folder = EnvironmentFolder::of(&place.home, name);
    let Ok(environment) = folder.read(name) else {
        return Ok(Found::Nothing);
    };
    let Some(cluster) = &environment.cluster else {
        return Ok(Found::Nothing);
    };
    if !environment.stays || environment.target != place.target_name {
        return Ok(Found::Nothing);
    }
    let console = Console::waiting_for(&format!("looking whether {name} is well"));
    let say = |step: &str| console.step(step);
    let found = repair(&place.home, &environment, cluster, &say).await;
    drop(console);
    if found.cluster.is_empty() {
        let mut unwell = found.platform;
        unwell.extend(other_version(place, &environment));
        return Ok(Found::Usable(Box::new(Usable {
            environment,
            unwell,
        })));
    }
    let trouble = found.cluster.join("; ");
    say!(
        "{name} is past help ({trouble}): it is made anew, and what its Postgres and Redis hold is lost"
    );
    down::one(&place.home, name, None).await;
    Ok(Found::PastHelp)
}

fn other_version(place: &Workplace, environment: &Environment) -> Option<String> {
    let (wanted, deployed) = (&place.config.platform.version, &environment.version);
    (deployed != wanted).then(|| format!("{deployed} is deployed, {wanted} is asked for"))
}

/// Uses the environment again, and leaves it up.
pub async fn again(
    place: &Workplace,
    named: &Named,
    supply: cli::Supply,
    usable: &Usable,
    purpose: Purpose<'_>,
) -> Result<ExitCode, Problem> {
    let environment = &usable.environment;
    let site = Site::find(place, environment).await?;
    let mut interrupts = interrupts()?;
    let verb = match purpose {
        Purpose::Prove(_) => "e2e",
        Purpose::Mend => "up",
    };
    let why = "which is up and stays";
    let mut run = place.start_run_on(verb, &environment.target, &named.name, why)?;
    let course = course(&mut run, place, &site, supply, usable, purpose);
    let ended = tokio::select! {
        ended = course => ended?,
        code = interrupts.next() => {
            if let Purpose::Prove(selection) = purpose {
                verify::leave(&run, place, environment, selection, &mut interrupts).await;
            }
            run.end_stages(StageResult::Interrupted)?;
            code
        }
    };
    run.finish(ended)?;
    // Of an environment that is mended, the document is its own.
    let is_proof = matches!(purpose, Purpose::Prove(_));
    conclude(&run, ended, named.common.json && is_proof)
}

async fn course(
    run: &mut Run,
    place: &Workplace,
    site: &Site<'_>,
    supply: cli::Supply,
    usable: &Usable,
    purpose: Purpose<'_>,
) -> Result<ExitCode, Problem> {
    let name = &usable.environment.name;
    preflight(run, &usable.unwell)?;
    let version = &place.config.platform.version;
    if let Err(code) = site.stage(run, version, supply).await? {
        return Ok(code);
    }
    let folder = EnvironmentFolder::of(&place.home, name);
    let kept = folder.write_version(version);
    kept.map_err(Problem::no_environment)?;
    let Purpose::Prove(selection) = purpose else {
        return Ok(ExitCode::Held);
    };
    let environment = folder.read(name).map_err(Problem::no_environment)?;
    let secrets = folder.read_secrets(name).map_err(Problem::no_environment)?;
    let credentials = secrets.credentials();
    verify::prove(run, place, &environment, &credentials, selection).await?;
    run.end_stages(StageResult::of_checks(run.checks()))?;
    Ok(ExitCode::of_checks(run.checks()))
}

/// What was found before: the run began with it.
fn preflight(run: &mut Run, unwell: &[String]) -> Result<(), RunFolderError> {
    run.begin(Stage::Preflight)?;
    let text = match unwell {
        [] => "the cluster answers, the platform is well".to_owned(),
        unwell => format!("deployed anew to mend it: {}", unwell.join("; ")),
    };
    run.note(Stage::Preflight, text)?;
    run.end_stages(StageResult::Done)
}
