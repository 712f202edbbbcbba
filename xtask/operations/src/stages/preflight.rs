//! The stage `preflight`: checks whether this machine can start an environment of the target.

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::Run;
use base::run::event::{Stage, StageResult};
use environments::preflight;

use crate::invocation::Invocation;
use crate::outcome::{failed, interrupted};
use crate::problem::Problem;

/// Inspects this machine. Returns the engine's environment variables for child processes.
pub async fn stage(
    run: &mut Run,
    invocation: &Invocation,
    interrupts: &mut Interrupts,
) -> Result<Vec<(String, String)>, Problem> {
    run.begin(Stage::Preflight)?;
    let tools_dir = invocation.home.tools();
    let found = tokio::select! {
        found = preflight::look(&invocation.config, invocation.target(), &tools_dir) => found,
        signal = interrupts.next() => return Err(interrupted(run, signal)),
    };
    let found = match found {
        Ok(found) => found,
        Err(missing) => {
            return Err(failed(run, ExitCode::NoEnvironment, [missing.failure()]));
        }
    };
    for note in &found.notes {
        run.note(Stage::Preflight, note)?;
    }
    run.end_stages(StageResult::Done)?;
    let engine = found.engine.iter().flat_map(|engine| engine.export_env());
    let owned = engine.map(|(name, value)| (name.to_owned(), value));
    Ok(owned.collect())
}
