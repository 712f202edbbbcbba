//! Runs the project's tests.

use base::exit::ExitCode;
use base::run::event::Stage;
use base::run::{News, Run};
use environments::config::Target;
use environments::environment::EnvironmentName;
use environments::supervisor::Order;
use machine::images::{Supply, Workshop};
use machine::provision::Need;
use machine::tools;

use crate::images::cancel_builds;
use crate::invocation::{Context, Invocation, interrupts};
use crate::outcome::CommandOutcome;
use crate::output::OutputMessage;
use crate::problem::Problem;
use crate::tiers::{self, ClusterOrder, Listener, TestPlan, TestsError, Tier};

/// Runs the tests of these tiers. With `provision`, first installs what they need.
pub async fn run(
    context: &Context,
    tiers: Vec<Tier>,
    provision: bool,
) -> Result<CommandOutcome, Problem> {
    let invocation = Invocation::find(context).await?;
    let mut interrupts = interrupts()?;
    let (output, tools_dir) = (&context.output, invocation.home.tools());
    let tiers = chosen(tiers, context.target.as_deref());
    if provision {
        let needs: Vec<Need> = tiers.iter().flat_map(|tier| tier.needs()).collect();
        tokio::select! {
            done = invocation.provision(&needs) => done?,
            signal = interrupts.next() => return Err(Problem::ended(signal)),
        }
    }
    let nextest = tools::nextest(&tools_dir);
    let nextest = nextest.ok_or_else(|| Problem::no_environment(TestsError::NoNextest))?;
    let (plan, engine) = TestPlan::look(&tiers, &tools_dir).await;
    let mut environment = vec![tools::path_with(&tools_dir)];
    let progress = |text: &str| output.progress(Stage::Provision, text);
    if let Some(engine) = &engine {
        let workshop = Workshop::of(&invocation.context.workspace, &invocation.home);
        tokio::select! {
            prepared = tiers::prepare_images(&plan, engine, &workshop, &progress) => {
                prepared.map_err(Problem::no_environment)?;
            }
            signal = interrupts.next() => {
                return Err(cancel_builds(output, &invocation.home, signal, &mut interrupts).await);
            }
        }
    }
    let engine = engine.iter().flat_map(|engine| engine.export_env());
    environment.extend(engine.map(|(name, value)| (name.to_owned(), value)));
    let mut run = match tiers.contains(&Tier::Cluster) {
        true => cluster_run(&invocation)?,
        false => None,
    };
    let cluster = run.as_ref().map(|(run, target, name)| ClusterOrder {
        order: Order {
            target: target.clone(),
            ..invocation.order(run, name, Supply::Auto)
        },
        variables: &environment,
        progress: &progress,
    });
    let listener = Listener {
        waiting: &|what| output.send(OutputMessage::WaitingForChild(what)),
        printed: &|| output.send(OutputMessage::ChildPrinted),
    };
    let workspace = &invocation.context.workspace;
    let ran = tiers::run(
        plan,
        &nextest,
        workspace,
        &environment,
        cluster,
        listener,
        &mut interrupts,
    );
    let results = ran.await.map_err(Problem::no_environment);
    output.send(OutputMessage::Done);
    if let Some((run, ..)) = &mut run {
        let code = results.as_ref().map(|results| results.exit_code());
        run.finish(code.unwrap_or(ExitCode::NoEnvironment))?;
    }
    let results = results?;
    for failure in results.failures() {
        output.send(OutputMessage::TestFailed(failure));
    }
    let outcome = CommandOutcome::of(results.exit_code()).with_note(format_args!("\n{results}"));
    outcome.with_document(&results.tallies)
}

/// Starts the run of the cluster that tests share. Returns it with the target and the name of its
/// environment, or none if the configuration has no kind target.
fn cluster_run(invocation: &Invocation) -> Result<Option<(Run, String, EnvironmentName)>, Problem> {
    let is_kind = |target: &Target| matches!(target, Target::Kind(_));
    let mut targets = invocation.config.targets.iter();
    let Some((target, _)) = targets.find(|(_, target)| is_kind(target)) else {
        return Ok(None);
    };
    let name: EnvironmentName = format!("tests-{}", std::process::id())
        .parse()
        .map_err(Problem::usage)?;
    let silent = Box::new(|_: News<'_>| ());
    let home = &invocation.home;
    let platform = &invocation.config.platform.name;
    let run = Run::start(
        home,
        "test",
        "test",
        platform,
        target,
        &name.to_string(),
        silent,
    )?;
    Ok(Some((run, target.clone(), name)))
}

/// Returns the tiers to run, each once, in order.
fn chosen(mut tiers: Vec<Tier>, target: Option<&str>) -> Vec<Tier> {
    tiers.sort();
    tiers.dedup();
    match (tiers.is_empty(), target) {
        (false, _) => tiers,
        (true, None) => Tier::ALL.to_vec(),
        // Without the cluster tier, which does not use a named target.
        (true, Some(_)) => vec![Tier::Fast, Tier::Containers],
    }
}
