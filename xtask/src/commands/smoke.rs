//! `cargo xtask smoke`.

use harness::environment::EnvironmentFolder;
use harness::exit::ExitCode;
use harness::run::event::{Stage, StageResult};
use scenarios::{Subject, smoke};

use super::workplace::{Workplace, conclude, interrupts};
use crate::cli::Common;
use crate::problem::Problem;

/// Proves an environment that is up.
pub async fn run(common: Common) -> Result<ExitCode, Problem> {
    let place = Workplace::find(&common)?;
    let folder = EnvironmentFolder::of(&place.home, &common.name);
    let environment = folder.read(&common.name).map_err(Problem::no_environment)?;
    let secrets = folder
        .read_secrets(&common.name)
        .map_err(Problem::no_environment)?;
    let mut interrupts = interrupts()?;
    let mut run = place.start_run("smoke", &common)?;
    let subject = Subject {
        environment: &environment,
        secrets: &secrets,
        home: &place.home,
        check_deadline: place.config.deadlines.check,
    };
    let proven = async {
        run.begin(Stage::Verify)?;
        smoke::run(&mut run, &subject).await
    };
    let interrupted = tokio::select! {
        done = proven => { done.map_err(Problem::no_environment)?; None }
        code = interrupts.next() => Some(code),
    };
    let (result, code) = match (interrupted, run.failed_checks()) {
        (Some(code), _) => (StageResult::Interrupted, code),
        (None, 0) => (StageResult::Done, ExitCode::Held),
        (None, _) => (StageResult::Failed, ExitCode::CheckFailed),
    };
    run.end_stages(result).map_err(Problem::no_environment)?;
    run.finish(code).map_err(Problem::no_environment)?;
    conclude(&run, code, common.json)
}
