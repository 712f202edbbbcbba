//! `cargo xtask down`.

use harness::down;
use harness::exit::ExitCode;
use harness::provision;
use loadtests::bench::scratch_home;
use serde_json::json;

use super::remote;
use super::workplace::{Workplace, home, print_json};
use crate::cli::{Down, Named};
use crate::console::Console;
use crate::problem::Problem;

/// Takes environments down.
pub async fn run(arguments: Down) -> Result<ExitCode, Problem> {
    let Named { name, common } = &arguments.named;
    // Without a target there is nothing to read: what is broken is taken down, too.
    if common.target.is_some()
        && let Ok(place) = Workplace::find(common).await
    {
        remote::refuse(&place, "down")?;
    }
    let home = home(&common.places)?;
    let target = common.target.as_deref();
    let taking_down = async {
        match arguments.all {
            true => {
                // What a benchmark that was killed left is in a home of its own.
                let mut all = down::all(&home, target).await;
                let of_benchmarks = down::all(&scratch_home(&home), target).await;
                all.ended.extend(of_benchmarks.ended);
                all.left.extend(of_benchmarks.left);
                all.left_alone.extend(of_benchmarks.left_alone);
                all
            }
            false => down::one(&home, name, target).await,
        }
    };
    let mut down = Console::waiting("taking down what is up", taking_down).await;
    for name in &down.ended {
        say!("{name} is down");
    }
    if down.ended.is_empty() && down.left.is_empty() {
        say!("nothing was up");
    }
    if arguments.engine {
        match provision::stop_engine(&home.state()).await {
            Ok(stopped) => say!("{stopped}"),
            Err(error) => down.left.push(error.to_string()),
        }
    }
    if common.json {
        print_json(&json!({
            "ended": down.ended, "left": down.left, "left_alone": down.left_alone,
        }))?;
    }
    for left in &down.left {
        say!("left: {left}");
    }
    for left_alone in &down.left_alone {
        say!("note: {left_alone}");
    }
    Ok(match down.left.is_empty() {
        true => ExitCode::Held,
        false => ExitCode::CleanupIncomplete,
    })
}
