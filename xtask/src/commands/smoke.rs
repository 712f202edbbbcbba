//! `cargo xtask smoke`.

use harness::environment::EnvironmentFolder;
use harness::exit::ExitCode;
use harness::run::event::StageResult;
use miette::Diagnostic;
use thiserror::Error;

use super::remote;
use super::verify::{leave, prove};
use super::workplace::{Workplace, conclude, interrupts};
use crate::cli::Named;
use crate::problem::Problem;

/// The environment is not one of the target that was named.
#[derive(Debug, Error, Diagnostic)]
#[error("environment {name:?} is one of the target {target:?}")]
#[diagnostic(help("leave --target out, or name another environment with --name"))]
struct OfAnotherTarget {
    name: String,
    target: String,
}

/// Proves an environment that is up.
pub async fn run(named: Named) -> Result<ExitCode, Problem> {
    let Named { name, common } = &named;
    let place = Workplace::find(common).await?;
    if let Some(site) = remote::site(&place) {
        return remote::smoke(&place, site, common).await;
    }
    let folder = EnvironmentFolder::of(&place.home, name);
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
    let mut interrupts = interrupts()?;
    let why = "which is up";
    let mut run = place.start_run_on("smoke", &environment.target, name, why)?;
    let credentials = secrets.credentials();
    let proven = prove(&mut run, &place, &environment, &credentials);
    let interrupted = tokio::select! {
        done = proven => { done.map_err(Problem::no_environment)?; None }
        code = interrupts.next() => Some(code),
    };
    if interrupted.is_some() {
        leave(&environment).await;
    }
    let checks = run.checks();
    let (result, code) = match interrupted {
        Some(code) => (StageResult::Interrupted, code),
        None => (StageResult::of_checks(checks), ExitCode::of_checks(checks)),
    };
    run.end_stages(result).map_err(Problem::no_environment)?;
    run.finish(code).map_err(Problem::no_environment)?;
    conclude(&run, code, common.json)
}
