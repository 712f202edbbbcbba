//! `cargo xtask deploy`.

use std::path::PathBuf;
use std::time::Instant;

use harness::cluster::Cluster;
use harness::config::{KindTarget, Target};
use harness::engine::{Engine, PATIENCE};
use harness::environment::{ClusterPlace, Environment, EnvironmentFolder};
use harness::exit::ExitCode;
use harness::images::Workshop;
use harness::kind::deploy::{Deploy, NotDeployed};
use harness::release::Deployed;
use harness::release::live::Live;
use harness::run::event::{Failure, Happening, Stage, StageResult};
use harness::run::{Run, RunFolderError, millis};
use harness::tools;
use miette::Diagnostic;
use thiserror::Error;

use super::remote;
use super::workplace::{Workplace, conclude, interrupts};
use crate::cli;
use crate::console::Console;
use crate::problem::Problem;

/// There is nothing that a release could be installed in.
#[derive(Debug, Error, Diagnostic)]
#[error("environment {name:?} is not on a cluster: its target is {target:?}")]
#[diagnostic(help(
    "`cargo xtask up --target kind --name NAME` brings one up that is; a local one runs what the checkout holds: `down` and `up` it again"
))]
struct NotOnACluster {
    name: String,
    target: String,
}

/// Something that deploying takes is missing.
#[derive(Debug, Error, Diagnostic)]
#[error("{0} is not installed")]
#[diagnostic(help("`cargo xtask doctor --provision` gets it"))]
struct Missing(&'static str);

/// An environment on a cluster, and what a version is deployed to it with.
pub struct Site<'a> {
    place: &'a Workplace,
    target: &'a KindTarget,
    cluster: &'a ClusterPlace,
    engine: Engine,
    helm: PathBuf,
    workshop: Workshop,
}

impl<'a> Site<'a> {
    /// Finds what deploying takes.
    pub async fn find(place: &'a Workplace, environment: &'a Environment) -> Result<Self, Problem> {
        let target = place.config.targets.get(&environment.target);
        let (Some(Target::Kind(target)), Some(cluster)) = (target, &environment.cluster) else {
            return Err(Problem::usage(NotOnACluster {
                name: environment.name.to_string(),
                target: environment.target.clone(),
            }));
        };
        Ok(Site {
            place,
            target,
            cluster,
            engine: Engine::find(PATIENCE)
                .await
                .map_err(Problem::no_environment)?,
            helm: helm(place)?,
            workshop: Workshop::of(&place.workspace, &place.home),
        })
    }

    fn deploy<'b>(&'b self, version: &'b str, supply: cli::Supply) -> Deploy<'b> {
        Deploy {
            engine: &self.engine,
            helm: &self.helm,
            workshop: &self.workshop,
            config: &self.place.config,
            target: self.target,
            workspace: &self.place.workspace,
            place: self.cluster,
            version,
            supply: supply.into(),
        }
    }

    /// The engine, what images are made with, and the cluster's name.
    pub fn images(&self) -> (&Engine, &Workshop, &str) {
        (&self.engine, &self.workshop, &self.cluster.name)
    }

    /// Brings the version's image to the nodes, where it is to be had here.
    pub async fn bring_image(
        &self,
        version: &str,
        supply: cli::Supply,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), NotDeployed> {
        let brought = self.deploy(version, supply).image(progress).await;
        brought.map(|_| ()).map_err(NotDeployed::Image)
    }

    /// Deploys the version, as the stage `deploy` of the run. Whether it runs.
    pub async fn stage(
        &self,
        run: &mut Run,
        version: &str,
        supply: cli::Supply,
    ) -> Result<Result<(), ExitCode>, RunFolderError> {
        let deadline = self.place.config.deadlines.release;
        stage(run, version, async |progress| {
            let deployed = self.deploy(version, supply).run(deadline, progress).await;
            deployed.map_err(|error| NotDone::Failed(ExitCode::NoEnvironment, error.failure()))
        })
        .await
    }
}

/// Why a version does not run.
pub enum NotDone {
    /// Something is wrong; what the run ends with, and what to tell.
    Failed(ExitCode, Failure),
    /// It was called off by the signal that this code stands for.
    CalledOff(ExitCode),
}

/// `deploying` a version, as the stage `deploy` of the run. Where it does not run, what
/// the run ends with.
pub async fn stage(
    run: &mut Run,
    version: &str,
    deploying: impl AsyncFnOnce(&(dyn Fn(&str) + Sync)) -> Result<Deployed, NotDone>,
) -> Result<Result<(), ExitCode>, RunFolderError> {
    run.begin(Stage::Deploy)?;
    let begun = Instant::now();
    let deployed = deploying(&run.teller(Stage::Deploy)).await;
    match deployed {
        Ok(deployed) => {
            let step = match deployed.changed {
                true => format!("{version} is deployed, as revision {}", deployed.revision),
                false => format!("{version} was deployed already; its rollout is complete"),
            };
            run.record(Happening::Step {
                stage: Stage::Deploy,
                step,
                millis: millis(begun.elapsed()),
            })?;
            for live in deployed.reconfigured {
                run.note(Stage::Deploy, reconfigured(&live))?;
            }
            for live in deployed.left {
                run.note(Stage::Deploy, left(&live, version))?;
            }
            run.end_stages(StageResult::Done)?;
            Ok(Ok(()))
        }
        Err(NotDone::CalledOff(code)) => {
            run.end_stages(StageResult::Interrupted)?;
            Ok(Err(code))
        }
        Err(NotDone::Failed(code, failure)) => {
            run.record(Happening::Failed { failure })?;
            run.end_stages(StageResult::Failed)?;
            Ok(Err(code))
        }
    }
}

/// Where an environment's services are released.
pub async fn cluster_of(environment: &Environment) -> Result<Cluster, Problem> {
    let Some(place) = environment.releases() else {
        return Err(Problem::usage(NotOnACluster {
            name: environment.name.to_string(),
            target: environment.target.clone(),
        }));
    };
    let opened = place.open().await;
    opened.map_err(Problem::no_environment)
}

/// What has not reached the colour that is live.
fn reconfigured(live: &Live) -> String {
    let (service, version) = (live.service, &live.version);
    format!(
        "the new configuration of {service} waits in its idle colour; to release it: \
         cargo xtask blue-green deploy --service {service} --version {version}"
    )
}

/// What was not deployed, and how it is.
fn left(live: &Live, version: &str) -> String {
    let service = live.service;
    format!(
        "left as it is: {live}; to release it: cargo xtask blue-green deploy --service {service} --version {version}"
    )
}

/// The program that deploys.
pub fn helm(place: &Workplace) -> Result<PathBuf, Problem> {
    let helm = tools::own_or_on_path(&place.home.tools(), "helm");
    helm.ok_or_else(|| Problem::no_environment(Missing("helm")))
}

/// Deploys a version to an environment that is up, or shows what that would change.
pub async fn run(arguments: cli::Deploy) -> Result<ExitCode, Problem> {
    let named = &arguments.named;
    let place = Workplace::find(&named.common).await?;
    if let Some(site) = remote::site(&place) {
        return remote::deploy(&place, site, &arguments).await;
    }
    let folder = EnvironmentFolder::of(&place.home, &named.name);
    let environment = folder.read(&named.name).map_err(Problem::no_environment)?;
    let site = Site::find(&place, &environment).await?;
    let configured = &place.config.platform.version;
    let version = arguments.version.as_ref().unwrap_or(configured);
    let mut interrupts = interrupts()?;
    if arguments.dry_run {
        return tokio::select! {
            shown = show(&site, version, arguments.images) => shown,
            code = interrupts.next() => Ok(code),
        };
    }
    let why = "which is up";
    let mut run = place.start_run_on("deploy", &environment.target, &named.name, why)?;
    let deployed = tokio::select! {
        deployed = site.stage(&mut run, version, arguments.images) => Ok(deployed),
        code = interrupts.next() => Err(code),
    };
    let code = match deployed {
        Ok(deployed) => match deployed.map_err(Problem::no_environment)? {
            Ok(()) => {
                let kept = folder.write_version(version);
                kept.map_err(Problem::no_environment)?;
                ExitCode::Held
            }
            Err(code) => code,
        },
        Err(code) => {
            let ended = run.end_stages(StageResult::Interrupted);
            ended.map_err(Problem::no_environment)?;
            code
        }
    };
    run.finish(code).map_err(Problem::no_environment)?;
    let code = conclude(&run, code, named.common.json)?;
    if code == ExitCode::Held {
        say!("next:    cargo xtask smoke --name {}", named.name);
    }
    Ok(code)
}

async fn show(site: &Site<'_>, version: &str, supply: cli::Supply) -> Result<ExitCode, Problem> {
    let deploy = site.deploy(version, supply);
    let difference =
        Console::waiting("asking the cluster what would change", deploy.difference()).await;
    print_line!(
        "{}",
        difference.map_err(Problem::no_environment)?.trim_end()
    );
    Ok(ExitCode::Held)
}
