//! `cargo xtask test`.

use harness::config::Target;
use harness::environment::EnvironmentName;
use harness::exit::ExitCode;
use harness::images::Workshop;
use harness::provision::Need;
use harness::run::event::Stage;
use harness::run::{News, Run};
use harness::supervisor::Order;
use harness::tiers::{self, Audience, ClusterOrder, TestPlan, TestsError, Tier};
use harness::tools;

use super::workplace::{Workplace, called_off_building, interrupts, print_json};
use crate::cli::{self, Test};
use crate::console::Console;
use crate::problem::Problem;

/// Runs the project's tests.
pub async fn run(arguments: Test) -> Result<ExitCode, Problem> {
    let place = Workplace::find(&arguments.common).await?;
    let mut interrupts = interrupts()?;
    let tiers = tiers(&arguments);
    if arguments.provision {
        let needs: Vec<Need> = tiers.iter().flat_map(|tier| tier.needs()).collect();
        tokio::select! {
            done = place.provision(&needs) => done?,
            code = interrupts.next() => return Ok(code),
        }
    }
    let nextest = tools::nextest(&place.home.tools())
        .ok_or_else(|| Problem::no_environment(TestsError::NoNextest))?;
    let (plan, engine) = TestPlan::look(&tiers, &place.home.tools()).await;
    let mut environment = vec![tiers::path_with(&place.home.tools())];
    let console = Console::new();
    let progress = |text: &str| console.progress(Stage::Provision, text);
    if let Some(engine) = &engine {
        let workshop = Workshop::of(&place.workspace, &place.home);
        tokio::select! {
            had = tiers::prepare_images(engine, &workshop, &progress) => had.map_err(Problem::no_environment)?,
            code = interrupts.next() => {
                return Ok(called_off_building(&place.home, code, &mut interrupts).await);
            }
        }
    }
    let engine = engine.iter().flat_map(|engine| engine.export_env());
    environment.extend(engine.map(|(name, value)| (name.to_owned(), value)));
    let run = tiers.contains(&Tier::Cluster).then(|| cluster_run(&place));
    let mut run = run.transpose()?.flatten();
    let cluster = run.as_ref().map(|(run, target, name)| ClusterOrder {
        order: Order {
            target: target.clone(),
            ..place.order(run, name, cli::Supply::Auto)
        },
        variables: &environment,
        progress: &progress,
    });
    let audience = Audience {
        waiting: &|what| console.wait_for_child(what),
        heard: &|| console.heard(),
    };
    let outcome = tiers::run(
        plan,
        &nextest,
        &place.workspace,
        &environment,
        cluster,
        audience,
        &mut interrupts,
    )
    .await
    .map_err(Problem::no_environment);
    if let Some((run, ..)) = &mut run {
        let code = outcome.as_ref().map(|outcome| outcome.exit_code());
        run.finish(code.unwrap_or(ExitCode::NoEnvironment))?;
    }
    let outcome = outcome?;
    if arguments.common.json {
        print_json(&outcome.tallies)?;
    }
    say!("\n{outcome}");
    Ok(outcome.exit_code())
}

/// The run of the cluster that tests share, its target and its name; nothing where the
/// configuration knows no kind target.
fn cluster_run(place: &Workplace) -> Result<Option<(Run, String, EnvironmentName)>, Problem> {
    let is_kind = |target: &Target| matches!(target, Target::Kind(_));
    let mut targets = place.config.targets.iter();
    let Some((target, _)) = targets.find(|(_, target)| is_kind(target)) else {
        return Ok(None);
    };
    let name: EnvironmentName = format!("tests-{}", std::process::id())
        .parse()
        .map_err(Problem::usage)?;
    let nobody = Box::new(|_: News<'_>| ());
    let home = &place.home;
    let run = Run::start(home, "test", "test", target, &name.to_string(), nobody)?;
    Ok(Some((run, target.clone(), name)))
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
