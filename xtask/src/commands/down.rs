//! `cargo xtask down`.

use harness::down;
use harness::exit::ExitCode;
use harness::provision;
use loadtests::bench::scratch_home;
use serde_json::json;

use super::workplace::{home, print_json};
use crate::cli::Down;
use crate::problem::Problem;

/// Takes environments down.
pub async fn run(arguments: Down) -> Result<ExitCode, Problem> {
    let common = &arguments.common;
    let home = home(&common.places)?;
    let mut down = match arguments.all {
        true => {
            // What a benchmark that was killed left is in a home of its own.
            let mut all = down::all(&home).await;
            let of_benchmarks = down::all(&scratch_home(&home)).await;
            all.ended.extend(of_benchmarks.ended);
            all.left.extend(of_benchmarks.left);
            all
        }
        false => down::one(&home, &common.name).await,
    };
    for name in &down.ended {
        eprintln!("{name} is down");
    }
    if down.ended.is_empty() {
        eprintln!("nothing was up");
    }
    if arguments.engine {
        match provision::stop_engine(&home.state()).await {
            Ok(stopped) => eprintln!("{stopped}"),
            Err(error) => down.left.push(error.to_string()),
        }
    }
    if common.json {
        print_json(&json!({"ended": down.ended, "left": down.left}))?;
    }
    for left in &down.left {
        eprintln!("left: {left}");
    }
    Ok(match down.left.is_empty() {
        true => ExitCode::Held,
        false => ExitCode::CleanupIncomplete,
    })
}
