//! `cargo xtask e2e`.

use harness::exit::ExitCode;
use harness::interrupts::Interrupts;
use harness::preflight;
use harness::rehearsal::{Afterwards, rehearse};
use harness::run::event::{Happening, Stage, StageResult};
use harness::run::{Run, RunFolderError};

use super::remote;
use super::verify::{Selection, prove};
use super::warm::{self, Found, Purpose};
use super::workplace::{Workplace, conclude, interrupts, provision_if};
use crate::cli::{E2e, Named};
use crate::problem::Problem;

/// Stands the platform up, proves it, and takes it down.
pub async fn run(arguments: E2e) -> Result<ExitCode, Problem> {
    let selection = Selection::of(&arguments.scenarios, false)?;
    let Named { name, common } = &arguments.named;
    let place = Workplace::find(common).await?;
    if let Some(site) = remote::site(&place) {
        return remote::e2e(&place, site, &arguments, &selection).await;
    }
    let found = warm::find(&place, name).await?;
    if let Found::Usable(usable) = &found {
        let (named, supply) = (&arguments.named, arguments.images);
        return warm::again(&place, named, supply, usable, Purpose::Prove(&selection)).await;
    }
    let mut interrupts = interrupts()?;
    if let Err(code) = provision_if(arguments.provision, &place, &mut interrupts).await? {
        return Ok(code);
    }
    let mut run = place.start_run("e2e", &arguments.named)?;
    let variables = match look_first(&mut run, &place, &mut interrupts).await? {
        Ok(variables) => variables,
        Err(code) => return conclude(&run, code, common.json),
    };
    // One that was to stay up stays up.
    let stays = arguments.keep || matches!(found, Found::PastHelp);
    let afterwards = match stays {
        true => Afterwards::LeaveUp,
        false => Afterwards::TakeDown,
    };
    let order = place.order(&run, name, arguments.images);
    let code = rehearse(
        &mut run,
        order,
        &variables,
        &mut interrupts,
        afterwards,
        async |run, environment, secrets| {
            let credentials = secrets.credentials();
            prove(run, &place, environment, &credentials, &selection).await?;
            run.end_stages(StageResult::of_checks(run.checks()))
        },
    )
    .await?;
    let code = conclude(&run, code, common.json)?;
    let proven = matches!(
        code,
        ExitCode::Held | ExitCode::CheckFailed | ExitCode::Inconclusive
    );
    if stays && proven {
        super::up::say_how_to_use(&place.home, name);
    }
    Ok(code)
}

/// The stages before anything is started. Returns the engine's variables for children;
/// or the exit code, if this machine cannot stand up the target or the user calls it off.
pub async fn look_first(
    run: &mut Run,
    place: &Workplace,
    interrupts: &mut Interrupts,
) -> Result<Result<Vec<(String, String)>, ExitCode>, RunFolderError> {
    run.begin(Stage::Preflight)?;
    let tools_dir = place.home.tools();
    let found = tokio::select! {
        found = preflight::look(place.target(), &tools_dir) => found,
        code = interrupts.next() => {
            run.end_stages(StageResult::Interrupted)?;
            run.finish(code)?;
            return Ok(Err(code));
        }
    };
    match found {
        Ok(found) => {
            for note in &found.notes {
                run.note(Stage::Preflight, note)?;
            }
            run.end_stages(StageResult::Done)?;
            let engine = found.engine.iter().flat_map(|engine| engine.export_env());
            let owned = engine.map(|(name, value)| (name.to_owned(), value));
            Ok(Ok(owned.collect()))
        }
        Err(missing) => {
            run.record(Happening::Failed {
                failure: missing.failure(),
            })?;
            run.end_stages(StageResult::Failed)?;
            run.finish(ExitCode::NoEnvironment)?;
            Ok(Err(ExitCode::NoEnvironment))
        }
    }
}
