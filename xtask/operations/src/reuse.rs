//! Reuses an environment on a cluster that is already up, instead of a new one.

use base::interrupts::Interrupts;
use base::run::event::{Stage, StageResult};
use base::run::{Run, RunFolderError};
use environments::down;
use environments::environment::{Environment, EnvironmentName};
use environments::kind::repair::repair;
use machine::images::Supply;

use crate::invocation::Invocation;
use crate::outcome::CommandOutcome;
use crate::output::OutputMessage;
use crate::problem::Problem;
use crate::stages::load::{self, ProfileLoad};
use crate::stages::redeploy::KindDeployment;
use crate::stages::verify::{self, Selection};

/// What is found under a name.
pub enum Found {
    /// An environment that stays up, on a cluster of the requested target.
    Usable(Box<Usable>),
    /// The cluster could not be repaired. The environment was taken down, and the reason reported.
    Unrepairable,
    /// No environment that could be reused.
    Nothing,
}

/// An environment that can be reused.
pub struct Usable {
    pub environment: Environment,
    /// What is wrong with its platform, or with its version. A deployment repairs it.
    pub unwell: Vec<String>,
}

/// Why the environment is reused. Both deploy the checkout.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// And the load afterwards, if there is one.
    Prove(&'a Selection, Option<&'a ProfileLoad<'a>>),
    Repair,
}

/// Looks for an environment of this name to reuse, and repairs its cluster.
pub async fn find(invocation: &Invocation, name: &EnvironmentName) -> Found {
    let Ok(environment) = invocation.environment(name) else {
        return Found::Nothing;
    };
    let Some(cluster) = &environment.cluster else {
        return Found::Nothing;
    };
    if !environment.stays || environment.target != invocation.target_name {
        return Found::Nothing;
    }
    let output = &invocation.context.output;
    let step = |step: &str| output.send(OutputMessage::Step(step));
    let repaired = repair(&invocation.home, &environment, cluster, &step);
    let activity = format!("checking whether {name} is healthy");
    let found = output.waiting(&activity, repaired).await;
    if found.cluster.is_empty() {
        let mut unwell = found.platform;
        unwell.extend(other_version(invocation, &environment));
        return Found::Usable(Box::new(Usable {
            environment,
            unwell,
        }));
    }
    let problem = found.cluster.join("; ");
    output.line(format_args!(
        "{name} cannot be repaired ({problem}): it is created again, and the data of its Postgres and Redis is lost"
    ));
    down::one(&invocation.home, name, None).await;
    Found::Unrepairable
}

fn other_version(invocation: &Invocation, environment: &Environment) -> Option<String> {
    let (wanted, deployed) = (&invocation.config.platform.version, &environment.version);
    (deployed != wanted).then(|| format!("{deployed} is deployed, {wanted} is requested"))
}

/// Deploys the checkout to the environment, and leaves it up.
pub async fn run(
    invocation: &Invocation,
    supply: Supply,
    usable: &Usable,
    purpose: Purpose<'_>,
) -> Result<CommandOutcome, Problem> {
    let environment = &usable.environment;
    let deployment = KindDeployment::find(invocation, environment).await?;
    let verb = match purpose {
        Purpose::Prove(..) => "e2e",
        Purpose::Repair => "up",
    };
    let there = (environment.target.as_str(), &environment.name);
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        preflight(run, &usable.unwell)?;
        let version = &invocation.config.platform.version;
        deployment.deploy(run, version, supply, interrupts).await?;
        let Purpose::Prove(selection, load) = purpose else {
            return Ok(());
        };
        let environment = invocation.environment(&environment.name)?;
        let running = invocation.with_credentials(environment)?;
        verify::stage(run, invocation, &running, selection, interrupts).await?;
        match load {
            Some(load) => load::stage(run, invocation, &load.order(), &running, interrupts).await,
            None => Ok(()),
        }
    };
    let why = "which is up and stays";
    invocation.perform_on(verb, there, why, stages).await
}

/// Records, as the stage `preflight`, what was found before the run.
fn preflight(run: &mut Run, unwell: &[String]) -> Result<(), RunFolderError> {
    run.begin(Stage::Preflight)?;
    let text = match unwell {
        [] => "the cluster answers, the platform is healthy".to_owned(),
        unwell => format!("deployed again to repair it: {}", unwell.join("; ")),
    };
    run.note(Stage::Preflight, text)?;
    run.end_stages(StageResult::Done)
}
