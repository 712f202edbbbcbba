//! The context of every command, and what most start with: configuration, home, target, run.

use std::path::{Path, PathBuf};

use base::home::Home;
use base::interrupts::Interrupts;
use base::run::Run;
use base::run::event::{Happening, Stage, StageResult};
use environments::chart_check::{self, ChartCheckError, ClusterContents, Destination};
use environments::charts;
use environments::config::{Config, KindTarget, Target};
use environments::environment::{Credentials, Environment, EnvironmentFolder, EnvironmentName};
use environments::kind::input_check;
use environments::preflight;
use environments::releases::{self, TargetValues};
use environments::remote::{RemoteError, Site};
use environments::supervisor::Order;
use machine::engine::{Engine, TIMEOUT};
use machine::images::{ImageAvailability, Supply, Workshop};
use machine::provision::{ApplyProgress, Need, Places, ProvisionPlan};
use machine::tools;
use miette::Diagnostic;
use thiserror::Error;

use crate::checkout::checkout;
use crate::outcome::{CommandOutcome, conclude};
use crate::output::{DoneAtEnd, Output, OutputMessage};
use crate::problem::Problem;

/// For the addresses of the backing services, which are known once they run. Reserved for
/// documentation: RFC 5737.
const SOME_ADDRESSES: &str = "192.0.2.0/24";

/// The environment is not one of the target that was named.
#[derive(Debug, Error, Diagnostic)]
#[error("environment {name:?} is one of the target {target:?}")]
#[diagnostic(help("leave --target out, or name another environment with --name"))]
struct OfAnotherTarget {
    name: String,
    target: String,
}

/// A program that a deployment needs is missing.
#[derive(Debug, Error, Diagnostic)]
#[error("{0} is not installed")]
#[diagnostic(help("`cargo xtask doctor --provision` gets it"))]
struct Missing(&'static str);

/// The context of every command.
#[derive(Clone)]
pub struct Context {
    /// The arguments after `cargo xtask`.
    pub command: String,
    /// The target of the command line.
    pub target: Option<String>,
    /// The repository.
    pub workspace: PathBuf,
    /// The configuration; by default `harness.toml` of the repository.
    pub config: Option<PathBuf>,
    /// Where the harness writes; by default `target` of the repository.
    pub home: Option<PathBuf>,
    /// The receiver of messages.
    pub output: Output,
}

/// An environment that is up.
#[derive(Clone)]
pub struct RunningEnvironment {
    /// The environment.
    pub environment: Environment,
    /// The credentials of its users.
    pub credentials: Credentials,
}

impl Context {
    /// The harness home.
    pub fn home(&self) -> Result<Home, Problem> {
        let root = self.home.clone();
        let root = root.unwrap_or_else(|| self.workspace.join("target"));
        // Child processes run in other directories.
        let absolute = std::path::absolute(&root)
            .map_err(|error| Problem::system(&format!("find {}", root.display()), error))?;
        Ok(Home::new(absolute))
    }

    /// The configuration's file.
    pub fn config_path(&self) -> Result<PathBuf, Problem> {
        let path = self.config.clone();
        let path = path.unwrap_or_else(|| self.workspace.join("harness.toml"));
        std::path::absolute(&path).map_err(|error| Problem::system("find the configuration", error))
    }

    /// The path of helm.
    pub fn helm(&self) -> Result<PathBuf, Problem> {
        let helm = tools::own_or_on_path(&self.home()?.tools(), "helm");
        helm.ok_or_else(|| Problem::no_environment(Missing("helm")))
    }

    /// What images are built with.
    pub fn workshop(&self) -> Result<Workshop, Problem> {
        Ok(Workshop::of(&self.workspace, &self.home()?))
    }
}

/// A command's configuration, home and target.
pub struct Invocation {
    /// The context.
    pub context: Context,
    /// The configuration's file.
    pub config_path: PathBuf,
    /// The configuration.
    pub config: Config,
    /// Where the harness writes.
    pub home: Home,
    /// The target's name.
    pub target_name: String,
    /// Why this target was chosen.
    why: String,
}

impl Invocation {
    /// Reads the configuration and chooses the target: that of the command line, or the default of
    /// the configuration.
    pub async fn find(context: &Context) -> Result<Invocation, Problem> {
        let target = context.target.as_deref();
        let config_path = context.config_path()?;
        let config = Config::read(&config_path).map_err(Problem::usage)?;
        let (chosen, why) = match config.is_auto(target) {
            true => automatic(&config, &context.workshop()?).await,
            false => {
                let default = "the default of harness.toml";
                let why = target.map_or(default, |_| "as --target says");
                (target.map(str::to_owned), why.to_owned())
            }
        };
        let target = config.target(chosen.as_deref());
        let (target_name, target) = target.map_err(Problem::usage)?;
        let workspace = &context.workspace;
        let checked = match target {
            Target::Kind(kind) => input_check::check(&config, (target_name, kind), workspace),
            Target::Local(_) => input_check::check_services(&config, workspace),
            Target::Remote(_) => Ok(()),
        };
        checked.map_err(Problem::usage)?;
        Ok(Invocation {
            target_name: target_name.to_owned(),
            why,
            home: context.home()?,
            context: context.clone(),
            config_path,
            config,
        })
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.config.targets[&self.target_name]
    }

    /// The target, if it is a remote one.
    pub fn remote_site(&self) -> Option<Site<'_>> {
        match self.target() {
            Target::Local(_) | Target::Kind(_) => None,
            Target::Remote(target) => Some(Site {
                name: &self.target_name,
                target,
                config: &self.config,
                workspace: &self.context.workspace,
                home: &self.home,
            }),
        }
    }

    /// Refuses `verb` for a remote target, which this harness does not own.
    pub fn refuse_remote(&self, verb: &'static str) -> Result<(), Problem> {
        match self.remote_site() {
            Some(site) => Err(RemoteError::not_ours(site.name, verb).into()),
            None => Ok(()),
        }
    }

    /// The folder of an environment.
    pub fn folder(&self, name: &EnvironmentName) -> EnvironmentFolder {
        EnvironmentFolder::of(&self.home, name)
    }

    /// The environment of this name that is up.
    pub fn environment(&self, name: &EnvironmentName) -> Result<Environment, Problem> {
        let environment = self.folder(name).read(name);
        environment.map_err(Problem::no_environment)
    }

    /// The environment of this name that is up. If the command line has a target, the environment
    /// must be of that target.
    pub fn running(&self, name: &EnvironmentName) -> Result<RunningEnvironment, Problem> {
        let environment = self.environment(name)?;
        let named = self.context.target.as_ref();
        if named.is_some_and(|named| *named != environment.target) {
            return Err(Problem::usage(OfAnotherTarget {
                name: name.to_string(),
                target: environment.target,
            }));
        }
        self.with_credentials(environment)
    }

    /// Adds the credentials of its users to an environment.
    pub fn with_credentials(
        &self,
        environment: Environment,
    ) -> Result<RunningEnvironment, Problem> {
        let name = &environment.name;
        let secrets = self.folder(name).read_secrets(name);
        Ok(RunningEnvironment {
            credentials: secrets.map_err(Problem::no_environment)?.credentials(),
            environment,
        })
    }

    /// Makes a run in a new environment of the target, from its plan to its report.
    pub async fn perform(
        &self,
        verb: &str,
        name: &EnvironmentName,
        stages: impl AsyncFnOnce(&mut Run, &mut Interrupts) -> Result<(), Problem>,
    ) -> Result<CommandOutcome, Problem> {
        let why = self.why.as_str();
        self.perform_on(verb, (&self.target_name, name), why, stages)
            .await
    }

    /// Makes a run in an environment of this target and name, chosen because of `why`.
    pub async fn perform_on(
        &self,
        verb: &str,
        environment: (&str, &EnvironmentName),
        why: &str,
        stages: impl AsyncFnOnce(&mut Run, &mut Interrupts) -> Result<(), Problem>,
    ) -> Result<CommandOutcome, Problem> {
        let mut interrupts = interrupts()?;
        let mut run = self.start_run(verb, environment, why).await?;
        let ended = stages(&mut run, &mut interrupts).await;
        conclude(run, ended)
    }

    /// Starts a run with its first stage, `plan`.
    pub async fn start_run(
        &self,
        verb: &str,
        (target, name): (&str, &EnvironmentName),
        why: &str,
    ) -> Result<Run, Problem> {
        let up = self.environment(name).ok().map(|it| it.version);
        let (name, listener) = (name.to_string(), self.context.output.listener());
        let mut run = Run::start(
            &self.home,
            verb,
            &self.context.command,
            &self.config.platform.name,
            target,
            &name,
            listener,
        )?;
        run.begin(Stage::Plan)?;
        if let Some(checkout) = checkout(&self.context.workspace).await {
            run.record(checkout)?;
        }
        if let Some(version) = up {
            run.record(Happening::PlatformVersion { version })?;
        }
        let plan = format!("target {target}, {why}; environment {name}");
        run.note(Stage::Plan, plan)?;
        run.end_stages(StageResult::Done)?;
        Ok(run)
    }

    /// The supervisor's order for a run.
    pub fn order(&self, run: &Run, name: &EnvironmentName, supply: Supply) -> Order {
        Order {
            name: name.clone(),
            target: self.target_name.clone(),
            config: self.config_path.clone(),
            home: self.home.root().to_owned(),
            workspace: self.context.workspace.clone(),
            run: run.id().to_owned(),
            run_folder: run.folder().to_owned(),
            stop: self.config.deadlines.stop,
            supply,
            version: None,
        }
    }

    /// Installs what is missing of `needs`, after printing the plan.
    pub async fn provision(&self, needs: &[Need]) -> Result<(), Problem> {
        let places = Places {
            tools_dir: self.home.tools(),
            state_dir: self.home.state(),
        };
        let plan = ProvisionPlan::for_needs(needs, places).await;
        self.context.output.line(plan.describe());
        let applied = plan.apply(|progress| match progress {
            ApplyProgress::Line(text) => self.context.output.progress(Stage::Provision, text),
            ApplyProgress::Ended(step, took) => {
                let ended = OutputMessage::StepEnded(Stage::Provision, step, took);
                self.context.output.send(ended);
            }
        });
        let _done_at_end = DoneAtEnd(&self.context.output);
        applied.await.map_err(Problem::no_environment)
    }

    /// Prepares the start of an environment: installs what is missing, if `provision` is set, and
    /// refuses charts that do not fit the configuration.
    pub async fn prepare(&self, provision: bool) -> Result<(), Problem> {
        let mut interrupts = interrupts()?;
        let prepared = async {
            if provision {
                let needs = preflight::needs(&self.config, self.target()).await;
                self.provision(&needs).await?;
            }
            match self.target() {
                Target::Kind(target) => self.check_charts(target).await,
                // Without charts, and with what the cluster has at each deployment.
                Target::Local(_) | Target::Remote(_) => Ok(()),
            }
        };
        tokio::select! {
            done = prepared => done,
            signal = interrupts.next() => Err(Problem::ended(signal)),
        }
    }

    /// Returns the path of helm, once the charts of registries are pulled.
    pub async fn helm_with_charts(&self) -> Result<PathBuf, Problem> {
        let helm = self.context.helm()?;
        self.pull_charts(&helm).await?;
        Ok(helm)
    }

    async fn pull_charts(&self, helm: &Path) -> Result<(), Problem> {
        let mut interrupts = interrupts()?;
        let progress = |text: &str| self.context.output.progress(Stage::Provision, text);
        let _done_at_end = DoneAtEnd(&self.context.output);
        tokio::select! {
            pulled = charts::pull(helm, &self.config, &self.home, &progress) => {
                pulled.map_err(|error| Problem::new(error.exit_code(), error))
            }
            signal = interrupts.next() => Err(Problem::ended(signal)),
        }
    }

    /// Compares the charts with the configuration, and asks the registries for the images that the
    /// nodes will pull. Without helm, the preflight of the run fails.
    async fn check_charts(&self, target: &KindTarget) -> Result<(), Problem> {
        let Some(helm) = tools::own_or_on_path(&self.home.tools(), "helm") else {
            return Ok(());
        };
        self.pull_charts(&helm).await?;
        let (config, workspace) = (&self.config, &self.context.workspace);
        let version = &config.platform.version;
        let manifests = input_check::objects_of(&config.platform, workspace);
        let manifests = manifests.map_err(Problem::usage)?;
        let destination = Destination {
            namespace: &target.namespace,
            contents: &ClusterContents::of_new(config, target, &manifests),
        };
        let values = TargetValues::of_kind(target, Some(SOME_ADDRESSES));
        let releases = releases::all(config, &values, (workspace, &self.home), version);
        let checked = chart_check::check(&helm, config, version, &releases, &destination).await;
        let problem = |error: ChartCheckError| Problem::new(error.exit_code(), error);
        let fit = checked.map_err(problem)?;
        let output = &self.context.output;
        fit.notes.iter().for_each(|note| output.line(note));
        if fit.pulled.is_empty() {
            return Ok(());
        }
        // Without an engine, the preflight of the run fails.
        let Ok(engine) = Engine::find(TIMEOUT).await else {
            return Ok(());
        };
        let asking = chart_check::pulls::check(&engine, config, &fit.pulled);
        let asked = output.waiting("asking the registries for the images", asking);
        let notes = asked.await.map_err(problem)?;
        notes.iter().for_each(|note| output.line(note));
        Ok(())
    }
}

/// Chooses the target for this machine. Returns the target and the reason.
async fn automatic(config: &Config, workshop: &Workshop) -> (Option<String>, String) {
    let (cluster, why) = match Engine::find(TIMEOUT).await {
        Err(none) => (false, none.in_short()),
        Ok(engine) => match no_cluster(&engine, workshop).await {
            None => (true, format!("an engine answers at {}", engine.host)),
            Some(why) => (false, why),
        },
    };
    let chosen = config.auto(cluster).map(str::to_owned);
    (chosen, format!("since {why}"))
}

/// Returns why no cluster can be started with the engine, if none can.
async fn no_cluster(engine: &Engine, workshop: &Workshop) -> Option<String> {
    if let Some(why) = preflight::no_cluster_of(engine) {
        return Some(why);
    }
    let lack = match ImageAvailability::look(engine, workshop).await {
        Ok(means) => means.lack()?.to_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!("a cluster's images are not available: {lack}"))
}

/// Handles SIGINT and SIGTERM from now on.
pub fn interrupts() -> Result<Interrupts, Problem> {
    Interrupts::new().map_err(|error| Problem::system("listen for signals", error))
}
