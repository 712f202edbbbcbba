//! Calls the operation of each command, and prints its outcome.

use std::path::PathBuf;

use base::exit::ExitCode;
use loadtests::bench::Figure;
use operations::invocation::Context;
use operations::outcome::CommandOutcome;
use operations::output::Output;
use operations::problem::Problem;
use operations::{
    bench, blue_green, deploy, doctor, down, e2e, images, init, load, perf, report, scenario,
    status, test, tiers, up,
};

use crate::annotations::Annotations;
use crate::cli::{
    self, BlueGreenCommand, Command, Common, ImagesCommand, InitArgs, LoadCommand, ScenarioCommand,
};
use crate::console::Console;
use crate::output;

/// Runs a command, prints its outcome, and returns the exit code.
pub async fn run(command: Command) -> ExitCode {
    let Common {
        target,
        json,
        places,
    } = command.common();
    let annotations = Annotations::in_github_actions(workspace());
    let console = Console::new(json, annotations);
    let context = Context {
        command: command_line(),
        target,
        workspace: workspace(),
        config: places.config,
        home: places.home,
        output: Output::new(move |message| console.receive(message)),
    };
    let ended = Box::pin(carry_out(&context, command)).await;
    // The console must stop before the answer is printed.
    drop(context);
    match ended {
        Ok(outcome) => show(outcome, json),
        Err(problem) => output::problem(&problem),
    }
}

async fn carry_out(context: &Context, command: Command) -> Result<CommandOutcome, Problem> {
    match command {
        Command::E2e(args) => {
            let options = e2e::Options {
                name: args.named.name,
                provision: args.provision,
                keep: args.keep,
                scenarios: args.scenarios,
                supply: args.images.into(),
            };
            e2e::run(context, &options).await
        }
        Command::Up(args) => {
            up::run(
                context,
                &args.named.name,
                args.provision,
                args.images.into(),
            )
            .await
        }
        Command::Down(args) => down::run(context, &args.named.name, args.all, args.engine).await,
        Command::Status(args) => status::run(context, args.name.as_ref()).await,
        Command::Smoke(named) => scenario::smoke(context, named.name).await,
        Command::Scenario(args) => match args.command {
            ScenarioCommand::List { .. } => scenario::list(),
            ScenarioCommand::Run(args) => {
                let options = scenario::Options {
                    name: args.named.name,
                    names: args.names,
                    sabotage: args.sabotage,
                };
                scenario::run(context, &options).await
            }
        },
        Command::Deploy(args) => {
            let options = deploy::Options {
                name: args.named.name,
                version: args.version,
                dry_run: args.dry_run,
                supply: args.images.into(),
            };
            Box::pin(deploy::run(context, &options)).await
        }
        Command::BlueGreen(args) => blue_green::run(context, &args.command.into()).await,
        Command::Load(args) => match args.command {
            LoadCommand::Run(args) => {
                let options = load::Options {
                    name: args.named.name,
                    profile: args.profile,
                    out: args.out,
                    summary_export: args.summary_export,
                    generators: args.generators,
                };
                load::run(context, &options).await
            }
            LoadCommand::Show(args) => load::show(&args.file, args.format.map(Into::into)),
            LoadCommand::Compare(args) => load::compare(&args.a, &args.b),
        },
        Command::Perf(args) => {
            let options = perf::Options {
                name: args.named.name,
                profile: args.profile,
                ab: args.ab.and_then(|versions| versions.try_into().ok()),
                against: args.against,
                save: args.save,
                pairs: args.pairs,
                runs: args.runs,
                supply: args.images.into(),
            };
            perf::run(context, &options).await
        }
        Command::Init(args) => {
            let output = args.output.clone();
            init::run(context, &args.into(), output.as_deref()).await
        }
        Command::Doctor(args) => doctor::run(context, args.provision).await,
        Command::Test(args) => {
            let tiers = args.tier.into_iter().map(tier).collect();
            test::run(context, tiers, args.provision).await
        }
        Command::Images(args) => images::run(context, &args.command.into()).await,
        Command::Bench(args) => bench::run(context, args.figure.map(figure), args.rounds).await,
        Command::Report(args) => report::run(context, args.run.as_deref()),
        Command::Supervise => Ok(CommandOutcome::of(environments::supervisor::serve().await)),
        // Handled before the runtime started.
        Command::RunBound(_) => Ok(CommandOutcome::of(ExitCode::Usage)),
    }
}

fn show(outcome: CommandOutcome, json: bool) -> ExitCode {
    match outcome.document {
        Some(document) if json => print_line!("{document}"),
        _ => {
            for line in outcome.answer {
                output::answer_wrapped(&line);
            }
        }
    }
    if let Some(problem) = outcome.problem {
        output::problem(&problem);
    }
    for note in outcome.notes {
        say!("{note}");
    }
    outcome.exit_code
}

/// Returns the arguments after `cargo xtask`.
fn command_line() -> String {
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    arguments.collect::<Vec<_>>().join(" ")
}

/// Returns the repository that this binary was built from.
fn workspace() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or(manifest.clone(), PathBuf::from)
}

impl From<BlueGreenCommand> for blue_green::Options {
    fn from(command: BlueGreenCommand) -> Self {
        use blue_green::Command;
        let (named, command) = match command {
            BlueGreenCommand::Deploy(args) => {
                let deploy = blue_green::Deploy {
                    services: args.service,
                    version: args.version,
                    manual: args.manual,
                    dry_run: args.dry_run,
                    supply: args.images.into(),
                    release: args.release,
                };
                (args.named, Command::Deploy(deploy))
            }
            BlueGreenCommand::Status(args) => (args.named, Command::Status(args.service)),
            BlueGreenCommand::Promote(args) => (args.named, Command::Promote(args.service)),
            BlueGreenCommand::Pause(args) => (args.named, Command::Pause(args.service)),
            BlueGreenCommand::Abort(args) => (args.named, Command::Abort(args.service)),
        };
        blue_green::Options {
            name: named.name,
            command,
        }
    }
}

impl From<InitArgs> for init::Source {
    fn from(args: InitArgs) -> Self {
        match (args.chart, args.context) {
            (Some(chart), _) => Self::Chart(init::ChartSource {
                chart,
                version: args.chart_version,
                values: args.values,
                release: args.release,
                namespace: args.namespace,
            }),
            (None, context) => Self::Cluster {
                context: context.unwrap_or_default(),
                namespace: args.namespace.unwrap_or_default(),
            },
        }
    }
}

impl From<ImagesCommand> for images::Command {
    fn from(command: ImagesCommand) -> Self {
        let images = |names, supply: cli::SupplyArg| images::Images {
            names,
            supply: supply.into(),
        };
        match command {
            ImagesCommand::List(_) => Self::List,
            ImagesCommand::Build(args) => Self::Build(images(args.names, args.images)),
            ImagesCommand::Load(args) => Self::Load(images(args.names, args.images), args.cluster),
        }
    }
}

fn tier(tier: cli::TierArg) -> tiers::Tier {
    match tier {
        cli::TierArg::Fast => tiers::Tier::Fast,
        cli::TierArg::Containers => tiers::Tier::Containers,
        cli::TierArg::Cluster => tiers::Tier::Cluster,
    }
}

fn figure(figure: cli::FigureArg) -> Figure {
    match figure {
        cli::FigureArg::Local => Figure::Local,
        cli::FigureArg::Quotes => Figure::Quotes,
        cli::FigureArg::Kind => Figure::Kind,
        cli::FigureArg::Prober => Figure::Prober,
        cli::FigureArg::BlueGreen => Figure::BlueGreen,
        cli::FigureArg::Load => Figure::Load,
        cli::FigureArg::Report => Figure::Report,
    }
}
