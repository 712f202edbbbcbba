//! Makes runs of load, each of the version that it measures, and compares them.

use std::path::PathBuf;

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::event::Stage;
use base::run::{LOGS, Run};
use environments::config::{PlatformService, Target};
use environments::environment::EnvironmentName;
use environments::supervisor::{Order, OtherVersion};
use loadtests::baseline::{self, Baseline};
use loadtests::closed;
use machine::images::Supply;
use miette::Diagnostic;
use thiserror::Error;

use crate::comparison::{self, ComparisonOrder, Purpose};
use crate::ephemeral::EphemeralEnvironment;
use crate::invocation::{Context, Invocation, RunningEnvironment};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;
use crate::remote;
use crate::stages::load::ProfileLoad;
use crate::stages::preflight;
use crate::stages::redeploy::KindDeployment;

/// The options of `perf`.
pub struct Options {
    /// The environment's name.
    pub name: EnvironmentName,
    /// The profile's name.
    pub profile: String,
    /// Two versions to compare.
    pub ab: Option<[String; 2]>,
    /// The baseline to compare one run with.
    pub against: Option<String>,
    /// The baseline to store runs in.
    pub save: Option<String>,
    /// How many pairs of runs.
    pub pairs: u32,
    /// How many runs are stored.
    pub runs: u32,
    /// Where images may come from.
    pub supply: Supply,
}

#[derive(Debug, Error, Diagnostic)]
#[error("--ab cannot compare {0} with itself")]
#[diagnostic(help("--calibrate compares the running version with itself"))]
struct SameVersion(String);

/// A version that this machine does not have.
#[derive(Debug, Error, Diagnostic)]
#[error("the local target has no version {version:?}: it is not the checkout's, and {} is no file", program.display())]
#[diagnostic(help(
    "build it where it is checked out, and put it there:\n  git worktree add ../other {version}\n  cargo build --release --package {package} --manifest-path ../other/Cargo.toml\n  install -D ../other/target/release/{package} {}",
    program.display()
))]
struct NoSuchVersion {
    version: String,
    package: String,
    program: PathBuf,
}

/// Every version would be the same commands.
#[derive(Debug, Error, Diagnostic)]
#[error(
    "the local target has no other version {version:?}: no service of it is a program of this workspace"
)]
#[diagnostic(help("set cargo_package in [platform.local], and begin run with \"{{program}}\""))]
struct NoPrograms {
    version: String,
}

/// Makes the runs, and compares them.
pub async fn run(context: &Context, options: &Options) -> Result<CommandOutcome, Problem> {
    let invocation = Invocation::find(context).await?;
    let load = ProfileLoad::read(&invocation, &options.profile)?;
    let order = ComparisonOrder {
        load: load.order(),
        purpose: purpose(options, &invocation)?,
    };
    closed::keep_sigint().map_err(|error| Problem::system("listen for signals", error))?;
    if let Some(site) = invocation.remote_site() {
        return remote::compare(&invocation, site, &order).await;
    }
    match (&order.purpose, invocation.target()) {
        (Purpose::Versions { a, b, .. }, Target::Local(_)) => {
            let versions = [other(&invocation, a)?, other(&invocation, b)?];
            started_in_turn(&invocation, &order, options, &versions).await
        }
        (Purpose::Versions { .. }, _) => deployed_in_turn(&invocation, &order, options).await,
        _ => as_it_is(&invocation, &order, options).await,
    }
}

fn purpose(options: &Options, invocation: &Invocation) -> Result<Purpose, Problem> {
    let pairs = options.pairs;
    let find = |name: &String| baseline::find(&invocation.context.workspace, name);
    let save = options.save.as_ref().map(find);
    match (&options.ab, &options.against, save) {
        (Some([a, b]), ..) if a == b => Err(Problem::usage(SameVersion(a.clone()))),
        (Some([a, b]), ..) => Ok(Purpose::Versions {
            a: a.clone(),
            b: b.clone(),
            pairs,
        }),
        (_, Some(name), save) => {
            let path = find(name);
            let baseline = Baseline::read(&path);
            Ok(Purpose::Against {
                baseline: baseline.map_err(|error| Problem::new(error.exit_code(), error))?,
                path,
                save,
            })
        }
        (_, None, Some(path)) => Ok(Purpose::Save {
            path,
            runs: options.runs,
        }),
        (_, None, None) => Ok(Purpose::Calibration { pairs }),
    }
}

/// Measures the running version in all runs.
async fn as_it_is(
    invocation: &Invocation,
    order: &ComparisonOrder<'_>,
    options: &Options,
) -> Result<CommandOutcome, Problem> {
    let running = invocation.running(&options.name)?;
    let there = (running.environment.target.as_str(), &options.name);
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        let prepare = async |_: &mut Run, _: &mut Interrupts, _: Option<&str>| Ok(running.clone());
        comparison::stages(run, invocation, order, interrupts, prepare).await
    };
    invocation
        .perform_on("perf", there, "which is up", stages)
        .await
}

/// Deploys each version to the environment before its run. The last version stays.
async fn deployed_in_turn(
    invocation: &Invocation,
    order: &ComparisonOrder<'_>,
    options: &Options,
) -> Result<CommandOutcome, Problem> {
    let running = invocation.running(&options.name)?;
    let deployment = KindDeployment::find(invocation, &running.environment).await?;
    let name = &options.name;
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        let prepare = async |run: &mut Run, interrupts: &mut Interrupts, version: Option<&str>| {
            if let Some(version) = version {
                deploy(&deployment, run, interrupts, version, options).await?;
            }
            Ok(RunningEnvironment {
                environment: invocation.environment(name)?,
                credentials: running.credentials.clone(),
            })
        };
        let ended = comparison::stages(run, invocation, order, interrupts, prepare).await;
        let version = invocation.environment(name)?.version;
        let text = format!("the environment {name} stays with {version}");
        run.note(Stage::Deploy, text)?;
        ended
    };
    let there = (running.environment.target.as_str(), name);
    invocation
        .perform_on("perf", there, "which is up and stays", stages)
        .await
}

async fn deploy(
    deployment: &KindDeployment<'_>,
    run: &mut Run,
    interrupts: &mut Interrupts,
    version: &str,
    options: &Options,
) -> Result<(), Problem> {
    let supply = options.supply;
    let ended = deployment.deploy(run, version, supply, interrupts).await;
    if let Err(ExitCode::Interrupted | ExitCode::Terminated) =
        ended.as_ref().map_err(Problem::exit_code)
    {
        let name = &options.name;
        let text = format!(
            "cancelled while {version} was being deployed; to complete it: cargo xtask deploy --version {version} --name {name}"
        );
        run.note(Stage::Deploy, text)?;
    }
    ended
}

/// Starts each version in a new environment before its run, and tears it down after it.
async fn started_in_turn(
    invocation: &Invocation,
    order: &ComparisonOrder<'_>,
    options: &Options,
    versions: &[Option<OtherVersion>],
) -> Result<CommandOutcome, Problem> {
    let name = &options.name;
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        let variables = preflight::stage(run, invocation, interrupts).await?;
        let mut up: Option<EphemeralEnvironment> = None;
        let mut number = 0;
        let prepare = async |run: &mut Run, interrupts: &mut Interrupts, version: Option<&str>| {
            if let Some(before) = up.take() {
                before.tear_down(run, interrupts).await?;
            }
            number += 1;
            keep_logs_apart(run, number)?;
            let is_this = |other: &&OtherVersion| Some(other.name.as_str()) == version;
            let order = Order {
                version: versions.iter().flatten().find(is_this).cloned(),
                ..invocation.order(run, name, options.supply)
            };
            let started = EphemeralEnvironment::start(run, order, &variables, interrupts).await?;
            Ok(up.insert(started).running.clone())
        };
        let ended = comparison::stages(run, invocation, order, interrupts, prepare).await;
        // The last environment is torn down even if its run failed.
        let torn_down = match up {
            Some(last) => last.tear_down(run, interrupts).await,
            None => Ok(()),
        };
        match (ended, torn_down) {
            (Err(ended), Err(problem)) if problem.exit_code() != ExitCode::CleanupIncomplete => {
                Err(ended)
            }
            (ended, torn_down) => torn_down.and(ended),
        }
    };
    invocation.perform("perf", name, stages).await
}

/// Returns the program of a version, or none for the version that this checkout builds.
fn other(invocation: &Invocation, version: &str) -> Result<Option<OtherVersion>, Problem> {
    if *version == invocation.config.platform.version {
        return Ok(None);
    }
    let local = &invocation.config.platform.local;
    let has_program =
        |it: &PlatformService| it.local.run.first().is_some_and(|it| it == "{program}");
    let package = local.cargo_package.clone();
    let package = package.filter(|_| invocation.config.services.iter().any(has_program));
    let Some(package) = package else {
        let version = version.to_owned();
        return Err(Problem::usage(NoPrograms { version }));
    };
    let versions = invocation.home.versions();
    let program = versions.join(version);
    // A version must not be a path out of the folder.
    let is_in_folder = program.parent() == Some(&versions);
    match is_in_folder && program.is_file() {
        true => Ok(Some(OtherVersion {
            name: version.to_owned(),
            program,
        })),
        false => Err(Problem::usage(NoSuchVersion {
            version: version.to_owned(),
            package,
            program,
        })),
    }
}

/// Makes an empty folder `logs` for the `number`th environment, and keeps the previous one under
/// another name, so that a log is of one version.
fn keep_logs_apart(run: &Run, number: u32) -> Result<(), Problem> {
    let logs = run.folder().join(LOGS);
    let before = run.folder().join(format!("{LOGS}-{}", number - 1));
    let move_previous = || match number {
        1 => Ok(()),
        _ => {
            std::fs::rename(&logs, &before)?;
            std::fs::create_dir(&logs)
        }
    };
    move_previous().map_err(|error| Problem::system(&format!("move {}", logs.display()), error))
}
