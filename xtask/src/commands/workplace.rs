//! What most commands begin with: configuration, home, target, run, provisioning.

use std::path::PathBuf;

use harness::config::{Config, Target};
use harness::engine::{Engine, PATIENCE};
use harness::environment::{Environment, EnvironmentFolder, EnvironmentName, Secrets};
use harness::exit::ExitCode;
use harness::home::Home;
use harness::images::{Means, Workshop};
use harness::interrupts::Interrupts;
use harness::kind::inputs;
use harness::preflight;
use harness::provision::{Need, Places as ProvisionPlaces, Plan, Told};
use harness::run::event::{Stage, StageResult};
use harness::run::{Run, RunFolderError};
use harness::supervisor::Order;
use harness::sweep;
use miette::Diagnostic;
use thiserror::Error;

use crate::cli::{self, Common, Named, Places};
use crate::console::Console;
use crate::problem::Problem;

/// The environment is not one of the target that was named.
#[derive(Debug, Error, Diagnostic)]
#[error("environment {name:?} is one of the target {target:?}")]
#[diagnostic(help("leave --target out, or name another environment with --name"))]
struct OfAnotherTarget {
    name: String,
    target: String,
}

/// Where a command works, and with what.
pub struct Workplace {
    /// The repository.
    pub workspace: PathBuf,
    /// The configuration's file.
    pub config_path: PathBuf,
    /// The configuration.
    pub config: Config,
    /// Where the harness writes.
    pub home: Home,
    /// The target's name.
    pub target_name: String,
    /// Why it is that one.
    why: String,
}

/// The repository this binary was built from.
pub fn workspace() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or(manifest.clone(), PathBuf::from)
}

/// The harness home that the arguments name, or the repository's.
pub fn home(places: &Places) -> Result<Home, Problem> {
    let root = places
        .home
        .clone()
        .unwrap_or_else(|| workspace().join("target"));
    // Children run in other directories.
    let absolute = std::path::absolute(&root)
        .map_err(|error| Problem::system(&format!("find {}", root.display()), error))?;
    Ok(Home::new(absolute))
}

/// The configuration that the arguments name, or the repository's.
pub fn config_path(places: &Places) -> Result<PathBuf, Problem> {
    let named = places.config.clone();
    let path = named.unwrap_or_else(|| workspace().join("harness.toml"));
    std::path::absolute(&path).map_err(|error| Problem::system("find the configuration", error))
}

impl Workplace {
    /// Reads the configuration and finds the target.
    pub async fn find(common: &Common) -> Result<Workplace, Problem> {
        let config_path = config_path(&common.places)?;
        let config = Config::read(&config_path).map_err(Problem::usage)?;
        let named = common.target.as_deref();
        let (chosen, why) = match config.is_auto(named) {
            true => automatic(&config, &Workshop::of(&workspace(), &home(&common.places)?)).await,
            false => (named.map(str::to_owned), asked_for(named)),
        };
        let target = config.target(chosen.as_deref());
        let (target_name, target) = target.map_err(Problem::usage)?;
        let workspace = workspace();
        if let Target::Kind(kind) = target {
            inputs::check(kind, &workspace).map_err(Problem::usage)?;
        }
        Ok(Workplace {
            target_name: target_name.to_owned(),
            why,
            home: home(&common.places)?,
            workspace,
            config_path,
            config,
        })
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.config.targets[&self.target_name]
    }

    /// The environment that is up under the name, and its secrets.
    pub fn environment(&self, named: &Named) -> Result<(Environment, Secrets), Problem> {
        let Named { name, common } = named;
        let folder = EnvironmentFolder::of(&self.home, name);
        let environment = folder.read(name).map_err(Problem::no_environment)?;
        if common
            .target
            .as_ref()
            .is_some_and(|target| *target != environment.target)
        {
            return Err(Problem::usage(OfAnotherTarget {
                name: name.to_string(),
                target: environment.target,
            }));
        }
        let secrets = folder.read_secrets(name).map_err(Problem::no_environment)?;
        Ok((environment, secrets))
    }

    /// Starts a run that is printed as it goes, with its first stage: what was decided.
    pub fn start_run(&self, verb: &str, named: &Named) -> Result<Run, Problem> {
        self.start_run_on(verb, &self.target_name, &named.name, &self.why)
    }

    /// Starts a run on a target that was chosen because of `why`.
    pub fn start_run_on(
        &self,
        verb: &str,
        target: &str,
        name: &EnvironmentName,
        why: &str,
    ) -> Result<Run, Problem> {
        let name = name.to_string();
        let listener = Console::new().listener();
        let planned = || {
            let mut run = Run::start(&self.home, verb, &typed(), target, &name, listener)?;
            run.begin(Stage::Plan)?;
            let plan = format!("target {target}, {why}; environment {name}");
            run.note(Stage::Plan, plan)?;
            run.end_stages(StageResult::Done)?;
            Ok(run)
        };
        planned().map_err(|error: RunFolderError| Problem::no_environment(error))
    }

    /// The supervisor's order for a run.
    pub fn order(&self, run: &Run, name: &EnvironmentName, supply: cli::Supply) -> Order {
        Order {
            name: name.clone(),
            target: self.target_name.clone(),
            config: self.config_path.clone(),
            home: self.home.root().to_owned(),
            workspace: self.workspace.clone(),
            run: run.id().to_owned(),
            run_folder: run.folder().to_owned(),
            stop: self.config.deadlines.stop,
            supply: supply.into(),
            version: None,
        }
    }

    /// Installs what is missing of `needs`, after saying what that will be.
    pub async fn provision(&self, needs: &[Need]) -> Result<(), Problem> {
        let places = ProvisionPlaces {
            tools_dir: self.home.tools(),
            state_dir: self.home.state(),
        };
        let plan = Plan::for_needs(needs, places).await;
        say!("{}", plan.describe());
        let console = Console::new();
        plan.apply(|told| match told {
            Told::Line(text) => console.progress(Stage::Provision, text),
            Told::Ended(step, took) => console.ended(Stage::Provision, step, took),
        })
        .await
        .map_err(Problem::no_environment)
    }
}

fn asked_for(named: Option<&str>) -> String {
    match named {
        Some(_) => "as --target says".into(),
        None => "the default of harness.toml".into(),
    }
}

/// The target for this machine, and why it is that one.
async fn automatic(config: &Config, workshop: &Workshop) -> (Option<String>, String) {
    let (cluster, why) = match Engine::find(PATIENCE).await {
        Err(none) => (false, none.in_short()),
        Ok(engine) => match no_cluster(&engine, workshop).await {
            None => (true, format!("an engine answers at {}", engine.host)),
            Some(why) => (false, why),
        },
    };
    let chosen = config.auto(cluster).map(str::to_owned);
    (chosen, format!("since {why}"))
}

/// Why no cluster can be had with the engine, if none can.
async fn no_cluster(engine: &Engine, workshop: &Workshop) -> Option<String> {
    if let Some(why) = preflight::no_cluster_of(engine) {
        return Some(why);
    }
    let lack = match Means::look(engine, workshop).await {
        Ok(means) => means.lack()?.to_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!("a cluster's images cannot be had: {lack}"))
}

/// What was typed after `cargo xtask`.
fn typed() -> String {
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| word.to_string_lossy().into_owned());
    words.collect::<Vec<_>>().join(" ")
}

/// SIGINT and SIGTERM, from now on as something to wait for.
pub fn interrupts() -> Result<Interrupts, Problem> {
    Interrupts::new().map_err(|error| Problem::system("listen for signals", error))
}

/// Renders a run's report, and says where it is and what held.
///
/// What the run came to counts more than that its report could not be written.
pub fn conclude(run: &Run, code: ExitCode, json: bool) -> Result<ExitCode, Problem> {
    let report = match harness::report::render(run.folder()) {
        Ok(report) => report,
        Err(error) if code == ExitCode::Held => return Err(Problem::no_environment(error)),
        Err(error) => {
            Problem::no_environment(error).show();
            return Ok(code);
        }
    };
    if json {
        print_json(&report)?;
    }
    let page = run.folder().join("index.html");
    say!("\n{}\nreport: {}", report.headline(), page.display());
    Ok(code)
}

/// What `e2e` and `up` begin with, once it is known what is to be stood up: installing
/// what is missing, if that was asked for.
pub async fn provision_if(
    asked: bool,
    place: &Workplace,
    interrupts: &mut Interrupts,
) -> Result<Result<(), ExitCode>, Problem> {
    if !asked {
        return Ok(Ok(()));
    }
    let needs = preflight::needs(place.target(), &place.home.tools()).await;
    tokio::select! {
        done = place.provision(&needs) => done.map(Ok),
        code = interrupts.next() => Ok(Err(code)),
    }
}

/// Takes away what was left of images that were being built when `signal` came; a second one
/// leaves it to a later sweep.
pub async fn called_off_building(
    home: &Home,
    signal: ExitCode,
    interrupts: &mut Interrupts,
) -> ExitCode {
    let left = tokio::select! {
        left = sweep::own_builds(home) => left,
        _ = interrupts.next() => vec!["what was being built; `cargo xtask down --all` removes it".to_owned()],
    };
    for left in &left {
        say!("left: {left}");
    }
    match left.is_empty() {
        true => signal,
        false => ExitCode::CleanupIncomplete,
    }
}

/// Prints one JSON document on standard output.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Problem> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Problem::system("write JSON", error))?;
    print_line!("{text}");
    Ok(())
}
