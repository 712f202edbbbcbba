//! The stage `deploy`: deploys a version of the platform.

use std::path::{Path, PathBuf};
use std::time::Instant;

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::event::{Failure, Happening, Stage, StageResult};
use base::run::{Run, millis};
use environments::config::{KindTarget, Target};
use environments::environment::{ClusterPlace, CurrentRelease, Environment, EnvironmentName};
use environments::kind;
use environments::kind::deploy::{Deploy, NotDeployed};
use helm::live::Live;
use helm::{Deployed, Release};
use kubernetes::prober::PART;
use kubernetes::{Cluster, ClusterError};
use machine::engine::{Engine, TIMEOUT};
use machine::images::{ImageError, Supply, Workshop, on_nodes};
use miette::Diagnostic;
use thiserror::Error;

use crate::invocation::Invocation;
use crate::outcome::{failed, interrupted};
use crate::problem::Problem;

#[derive(Debug, Error, Diagnostic)]
#[error("environment {name:?} is not on a cluster: its target is {target:?}")]
#[diagnostic(help(
    "`cargo xtask up --target kind --name NAME` brings one up that is; a local one runs what the checkout holds: `down` and `up` it again"
))]
struct NotOnACluster {
    name: String,
    target: String,
}

impl NotOnACluster {
    fn problem(environment: &Environment) -> Problem {
        Problem::usage(NotOnACluster {
            name: environment.name.to_string(),
            target: environment.target.clone(),
        })
    }
}

/// An environment on a kind cluster, and what a deployment to it needs.
pub struct KindDeployment<'a> {
    invocation: &'a Invocation,
    name: &'a EnvironmentName,
    target: &'a KindTarget,
    cluster: &'a ClusterPlace,
    engine: Engine,
    helm: PathBuf,
    workshop: Workshop,
}

impl<'a> KindDeployment<'a> {
    pub async fn find(
        invocation: &'a Invocation,
        environment: &'a Environment,
    ) -> Result<Self, Problem> {
        let target = invocation.config.targets.get(&environment.target);
        let (Some(Target::Kind(target)), Some(cluster)) = (target, &environment.cluster) else {
            return Err(NotOnACluster::problem(environment));
        };
        let engine = Engine::find(TIMEOUT).await;
        Ok(KindDeployment {
            invocation,
            name: &environment.name,
            target,
            cluster,
            engine: engine.map_err(Problem::no_environment)?,
            helm: invocation.helm_with_charts().await?,
            workshop: Workshop::of(&invocation.context.workspace, &invocation.home),
        })
    }

    fn release<'b>(&'b self, version: &'b str, supply: Supply) -> Deploy<'b> {
        Deploy {
            engine: &self.engine,
            helm: &self.helm,
            workshop: &self.workshop,
            config: &self.invocation.config,
            target: self.target,
            workspace: &self.invocation.context.workspace,
            home: &self.invocation.home,
            place: self.cluster,
            version,
            supply,
        }
    }

    /// Opens the cluster.
    pub async fn open(&self) -> Result<Cluster, ClusterError> {
        self.cluster.open().await
    }

    /// Returns the helm program.
    pub fn helm(&self) -> &Path {
        &self.helm
    }

    /// Returns the releases of a version, in the order of their installation.
    pub fn releases(&self, version: &str) -> Vec<Release> {
        self.release(version, Supply::Auto).releases()
    }

    /// Returns the releases of a version whose pods never become ready, if the platform file tells
    /// how.
    pub fn unready_releases(&self, version: &str) -> Option<Vec<Release>> {
        self.release(version, Supply::Auto).unready_releases()
    }

    /// Returns a second release of the version beside the first, if the platform file tells how.
    pub fn second_release(&self, version: &str) -> Option<Release> {
        self.release(version, Supply::Auto).second_release()
    }

    /// Brings the checkout's images to the nodes under the names of these versions, and the
    /// prober's image. Returns the prober's.
    pub async fn bring_versions(
        &self,
        versions: &[String],
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<String, ImageError> {
        let (engine, workshop, cluster) = (&self.engine, &self.workshop, &self.cluster.name);
        let config = &self.invocation.config;
        kind::versions::load(engine, workshop, cluster, config, versions, progress).await?;
        self.bring_helper(PART, progress).await
    }

    /// Brings the image of this name to the nodes. Returns its reference.
    pub async fn bring_helper(
        &self,
        name: &str,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<String, ImageError> {
        let (engine, workshop, cluster) = (&self.engine, &self.workshop, &self.cluster.name);
        on_nodes(engine, workshop, cluster, name, Supply::Auto, progress).await
    }

    /// Brings the version's image to the nodes, if this machine has it.
    pub async fn bring_version(
        &self,
        version: &str,
        supply: Supply,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), NotDeployed> {
        let brought = self.release(version, supply).images(progress).await;
        brought.map(drop).map_err(NotDeployed::Image)
    }

    /// Deploys the version, as the stage `deploy` of the run, and records it in the environment.
    pub async fn deploy(
        &self,
        run: &mut Run,
        version: &str,
        supply: Supply,
        interrupts: &mut Interrupts,
    ) -> Result<(), Problem> {
        let deadline = self.invocation.config.deadlines.release;
        let deploying = async |progress: &(dyn Fn(&str) + Sync)| {
            let deployed = self.release(version, supply).run(deadline, progress).await;
            deployed.map_err(|error| NotDone::Failed(error.exit_code(), error.failure()))
        };
        tokio::select! {
            deployed = stage(run, version, deploying) => deployed?,
            signal = interrupts.next() => return Err(interrupted(run, signal)),
        }
        let folder = self.invocation.folder(self.name);
        let services = self.invocation.config.service_names();
        let release = CurrentRelease {
            version: version.to_owned(),
            services: services.map(str::to_owned).collect(),
        };
        folder
            .write_release(&release)
            .map_err(Problem::no_environment)
    }

    /// Deploys the version that the environment has recorded, outside of any stage.
    pub async fn deploy_again(
        &self,
        version: &str,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Problem> {
        let deadline = self.invocation.config.deadlines.release;
        let deployed = self
            .release(version, Supply::Auto)
            .run(deadline, progress)
            .await;
        deployed.map(drop).map_err(Problem::no_environment)
    }

    /// Returns what deploying the version would change.
    pub async fn difference(&self, version: &str, supply: Supply) -> Result<String, Problem> {
        let progress = |note: &str| self.invocation.context.output.line(note);
        let difference = self.release(version, supply).difference(&progress).await;
        difference.map_err(|error| Problem::new(error.exit_code(), error))
    }
}

/// Why a version was not deployed.
pub enum NotDone {
    /// The exit code of the run, and the failure to record.
    Failed(ExitCode, Failure),
    /// A signal cancelled it. The exit code of that signal.
    Cancelled(ExitCode),
}

/// Runs `deploying`, as the stage `deploy` of the run.
pub async fn stage(
    run: &mut Run,
    version: &str,
    deploying: impl AsyncFnOnce(&(dyn Fn(&str) + Sync)) -> Result<Vec<Deployed>, NotDone>,
) -> Result<(), Problem> {
    run.begin(Stage::Deploy)?;
    let begun = Instant::now();
    let outcome = deploying(&run.progress_reporter(Stage::Deploy)).await;
    let deployed = match outcome {
        Ok(deployed) => deployed,
        Err(NotDone::Cancelled(signal)) => return Err(interrupted(run, signal)),
        Err(NotDone::Failed(code, failure)) => return Err(failed(run, code, [failure])),
    };
    let changed = deployed.iter().filter(|it| it.changed);
    let changed = changed.map(|it| format!("revision {} of {}", it.revision, it.release));
    let changed: Vec<String> = changed.collect();
    let step = match changed.is_empty() {
        false => format!("{version} is deployed, as {}", changed.join(" and ")),
        true => format!("{version} was deployed already; its rollout is complete"),
    };
    run.record(Happening::Step {
        stage: Stage::Deploy,
        step,
        millis: millis(begun.elapsed()),
    })?;
    for live in deployed.iter().flat_map(|it| &it.reconfigured) {
        run.note(Stage::Deploy, reconfigured(live))?;
    }
    for live in deployed.iter().flat_map(|it| &it.left) {
        run.note(Stage::Deploy, left(live, version))?;
    }
    Ok(run.end_stages(StageResult::Done)?)
}

/// Returns the cluster in which an environment's services are released.
pub async fn cluster_of(environment: &Environment) -> Result<Cluster, Problem> {
    let Some(place) = environment.releases() else {
        return Err(NotOnACluster::problem(environment));
    };
    place.open().await.map_err(Problem::no_environment)
}

/// The note for a configuration that has not reached the live colour.
fn reconfigured(live: &Live) -> String {
    let (service, version) = (&live.service, &live.version);
    format!(
        "the new configuration of {service} waits in its idle colour; to release it: \
         cargo xtask blue-green deploy --service {service} --version {version}"
    )
}

/// The note for a service that was not deployed.
fn left(live: &Live, version: &str) -> String {
    let service = &live.service;
    format!(
        "left as it is: {live}; to release it: cargo xtask blue-green deploy --service {service} --version {version}"
    )
}
