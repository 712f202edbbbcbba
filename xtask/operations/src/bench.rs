//! Measures the figures that are stated.

use environments::config::Config;
use loadtests::bench::{self, BenchPlan, Figure};

use crate::invocation::{Context, interrupts};
use crate::outcome::CommandOutcome;
use crate::output::OutputMessage;
use crate::problem::Problem;

/// Measures this figure or all, each in so many rounds.
pub async fn run(
    context: &Context,
    figure: Option<Figure>,
    rounds: u32,
) -> Result<CommandOutcome, Problem> {
    let path = context.config_path()?;
    let config = Config::read(&path).map_err(Problem::usage)?;
    config.target(Some(bench::TARGET)).map_err(Problem::usage)?;
    let plan = BenchPlan {
        figures: figure.map_or(Figure::ALL.to_vec(), |figure| vec![figure]),
        rounds,
        home: context.home()?,
        workspace: context.workspace.clone(),
        config: path,
    };
    let mut interrupts = interrupts()?;
    let step = |text: &str| context.output.send(OutputMessage::Step(text));
    let measured = bench::run(&plan, &mut interrupts, &step).await;
    let (results, file) = measured.map_err(|error| Problem::new(error.exit_code(), error))?;
    let note = format!("\n{results}\nresults: {}", file.display());
    let outcome = CommandOutcome::of(bench::exit_code(&results)).with_note(note);
    outcome.with_document(&results)
}
