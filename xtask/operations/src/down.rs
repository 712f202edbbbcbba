//! Takes environments down, and removes what dead ones left.

use base::exit::ExitCode;
use environments::down;
use environments::environment::EnvironmentName;
use loadtests::bench::scratch_home;
use machine::provision;
use serde_json::json;

use crate::invocation::{Context, Invocation};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;

/// Takes down the environment, or every environment. With `engine`, also stops a container engine
/// that was provisioned.
pub async fn run(
    context: &Context,
    name: &EnvironmentName,
    every: bool,
    engine: bool,
) -> Result<CommandOutcome, Problem> {
    let target = context.target.as_deref();
    // Without a target, a broken configuration is not read: the teardown does not need it.
    if target.is_some()
        && let Ok(invocation) = Invocation::find(context).await
    {
        invocation.refuse_remote("down")?;
    }
    let (home, output) = (context.home()?, &context.output);
    let taking_down = async {
        if !every {
            return down::one(&home, name, target).await;
        }
        // Benchmarks have a separate home.
        let mut all = down::all(&home, target).await;
        let of_benchmarks = down::all(&scratch_home(&home), target).await;
        all.ended.extend(of_benchmarks.ended);
        all.left.extend(of_benchmarks.left);
        all.left_alone.extend(of_benchmarks.left_alone);
        all
    };
    let taken_down = output.waiting("taking down what is up", taking_down);
    let mut down = taken_down.await;
    for name in &down.ended {
        output.line(format_args!("{name} is down"));
    }
    if down.ended.is_empty() && down.left.is_empty() {
        output.line("nothing was up");
    }
    if engine {
        match provision::stop_engine(&home.state()).await {
            Ok(stopped) => output.line(stopped),
            Err(error) => down.left.push(error.to_string()),
        }
    }
    let mut outcome = CommandOutcome::of(match down.left.is_empty() {
        true => ExitCode::Held,
        false => ExitCode::CleanupIncomplete,
    });
    let left = down.left.iter().map(|left| format!("left: {left}"));
    let notes = down.left_alone.iter().map(|note| format!("note: {note}"));
    outcome.notes.extend(left.chain(notes));
    outcome.with_document(&json!({
        "ended": down.ended, "left": down.left, "left_alone": down.left_alone,
    }))
}
