//! `cargo xtask test`.

use std::sync::Mutex;

use harness::exit::ExitCode;
use harness::images::Workshop;
use harness::provision::Need;
use harness::run::event::Stage;
use harness::tiers::{self, TestPlan, TestsError, Tier};
use harness::tools;

use super::workplace::{Workplace, interrupts, print_json};
use crate::cli::{self, Test};
use crate::console::Console;
use crate::problem::Problem;

/// Runs the project's tests.
pub async fn run(arguments: Test) -> Result<ExitCode, Problem> {
    let place = Workplace::find(&arguments.common)?;
    let mut interrupts = interrupts()?;
    let tiers = tiers(&arguments);
    if arguments.provision {
        let mut needs: Vec<Need> = tiers
            .iter()
            .flat_map(|tier| tier.needs())
            .copied()
            .collect();
        needs.dedup();
        tokio::select! {
            done = place.provision(&needs) => done?,
            code = interrupts.next() => return Ok(code),
        }
    }
    let nextest = tools::nextest(&place.home.tools())
        .ok_or_else(|| Problem::no_environment(TestsError::NoNextest))?;
    let (plan, engine) = TestPlan::look(&tiers, &place.home.tools()).await;
    let mut environment = vec![tiers::path_with(&place.home.tools())];
    if let Some(engine) = engine {
        let workshop = Workshop {
            recipes: place.workspace.join("fixtures/images"),
            state_dir: place.home.state(),
        };
        let console = Mutex::new(Console::new());
        let progress = |text: &str| {
            if let Ok(mut console) = console.lock() {
                console.progress(Stage::Provision, text);
            }
        };
        tokio::select! {
            had = tiers::prepare_images(&engine, &workshop, &progress) => had.map_err(Problem::no_environment)?,
            code = interrupts.next() => return Ok(code),
        }
        let [(name, value)] = engine.export_env();
        environment.push((name.to_owned(), value.to_owned()));
    }
    let outcome = tiers::run(
        plan,
        &nextest,
        &place.workspace,
        &environment,
        &mut interrupts,
    )
    .await
    .map_err(Problem::no_environment)?;
    if arguments.common.json {
        print_json(&outcome.tallies)?;
    }
    say!("\n{outcome}");
    Ok(outcome.exit_code)
}

fn tiers(arguments: &Test) -> Vec<Tier> {
    let mut tiers: Vec<Tier> = arguments
        .tier
        .iter()
        .map(|tier| match tier {
            cli::Tier::Fast => Tier::Fast,
            cli::Tier::Containers => Tier::Containers,
            cli::Tier::Cluster => Tier::Cluster,
        })
        .collect();
    tiers.sort();
    tiers.dedup();
    match (tiers.is_empty(), &arguments.common.target) {
        (false, _) => tiers,
        (true, None) => Tier::ALL.to_vec(),
        // What a named target, which is a local one, has nothing to do with.
        (true, Some(_)) => vec![Tier::Fast, Tier::Containers],
    }
}
