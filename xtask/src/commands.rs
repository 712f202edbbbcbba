//! The commands, one file each.

mod bench;
mod blue_green;
mod blue_green_ground;
mod deploy;
mod doctor;
mod down;
mod e2e;
mod images;
mod load;
mod load_compare;
mod load_crew;
mod load_files;
mod load_show;
mod perf;
mod perf_ground;
mod prober_image;
mod remote;
mod report;
mod scenario;
mod status;
mod test;
mod up;
mod verify;
mod warm;
mod workplace;

use harness::exit::ExitCode;

use crate::cli::{Command, LoadCommand, ScenarioCommand, ScenarioRun};
use crate::problem::Problem;

/// Runs a command.
pub async fn dispatch(command: Command) -> Result<ExitCode, Problem> {
    match command {
        Command::E2e(arguments) => e2e::run(arguments).await,
        Command::Up(arguments) => up::run(arguments).await,
        Command::Down(arguments) => down::run(arguments).await,
        Command::Status(common) => status::run(common).await,
        Command::Smoke(named) => scenario::run("smoke", ScenarioRun::smoke(named)).await,
        Command::Scenario(arguments) => match arguments.command {
            ScenarioCommand::List { json } => scenario::list(json),
            ScenarioCommand::Run(arguments) => scenario::run("scenario", arguments).await,
        },
        Command::Deploy(arguments) => deploy::run(arguments).await,
        Command::BlueGreen(arguments) => blue_green::run(arguments).await,
        Command::Load(arguments) => match arguments.command {
            LoadCommand::Run(arguments) => load::run(arguments).await,
            LoadCommand::Show(arguments) => load_show::show(&arguments.file),
            LoadCommand::Compare(arguments) => load_compare::compare(&arguments),
        },
        Command::Perf(arguments) => perf::run(arguments).await,
        Command::Doctor(arguments) => doctor::run(arguments).await,
        Command::Test(arguments) => test::run(arguments).await,
        Command::Images(arguments) => images::run(arguments).await,
        Command::Bench(arguments) => bench::run(arguments).await,
        Command::Report(arguments) => report::run(arguments).await,
        Command::Supervise => Ok(harness::supervisor::serve().await),
        // Handled before the runtime started.
        Command::RunBound(_) => Ok(ExitCode::Usage),
    }
}
