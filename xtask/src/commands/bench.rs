//! `cargo xtask bench`.

use harness::config::Config;
use harness::exit::ExitCode;
use loadtests::bench::{self, Plan};

use super::workplace::{config_path, home, interrupts, print_json, workspace};
use crate::cli::{Bench, Figure};
use crate::console::Console;
use crate::problem::Problem;

/// Measures the figures that are stated.
pub async fn run(arguments: Bench) -> Result<ExitCode, Problem> {
    let path = config_path(&arguments.places)?;
    let config = Config::read(&path).map_err(Problem::usage)?;
    config.target(Some(bench::TARGET)).map_err(Problem::usage)?;
    let plan = Plan {
        figures: match arguments.figure {
            None => bench::Figure::ALL.to_vec(),
            Some(Figure::Local) => vec![bench::Figure::Local],
            Some(Figure::Quotes) => vec![bench::Figure::Quotes],
            Some(Figure::Kind) => vec![bench::Figure::Kind],
            Some(Figure::Prober) => vec![bench::Figure::Prober],
            Some(Figure::BlueGreen) => vec![bench::Figure::BlueGreen],
            Some(Figure::Load) => vec![bench::Figure::Load],
        },
        rounds: arguments.rounds,
        home: home(&arguments.places)?,
        workspace: workspace(),
        config: path,
    };
    let mut interrupts = interrupts()?;
    let console = Console::new();
    let (results, file) = bench::run(&plan, &mut interrupts, &|text| console.step(text))
        .await
        .map_err(|error| Problem::new(error.exit_code(), error))?;
    if arguments.json {
        print_json(&results)?;
    }
    say!("\n{results}\nresults: {}", file.display());
    Ok(bench::exit_code(&results))
}
