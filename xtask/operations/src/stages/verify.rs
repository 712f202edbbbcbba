//! The stage `verify`: runs scenarios against an environment that is up.

mod inside;
mod releases;
mod upgrades;

use std::collections::BTreeMap;

use base::interrupts::Interrupts;
use base::run::event::Stage;
use base::run::{Run, RunFolderError};
use environments::capability::Capability;
use environments::config::Target;
use environments::environment::{ClusterPlace, Environment};
use environments::kind::diagnostics;
use environments::router::must_lead_to_their_service;
use helm::live;
use kubernetes::Action;
use kubernetes::ClusterError;
use kubernetes::permissions::INSIDE;
use kubernetes::prober::{self, Owner};
use kubernetes::tunnel;
use machine::engine::{Engine, TIMEOUT};
use machine::tools;
use scenarios::catalogue::{self, CatalogueEntry, Family};
use scenarios::smoke::SmokeChecks;
use scenarios::{Subject, blue_green, rolling, smoke};

use crate::invocation::{Invocation, RunningEnvironment};
use crate::outcome::{checked, interrupted};
use crate::output::OutputMessage;
use crate::problem::Problem;
use releases::{NotPrepared, ReleaseSetup};
use upgrades::UpgradeSetup;

/// The scenarios to run.
pub struct Selection {
    scenarios: Vec<&'static CatalogueEntry>,
    /// Whether to plant a fault that breaks each claim.
    sabotage: bool,
    checks: SmokeChecks,
}

impl Selection {
    /// Selects the scenarios and families of these names, or all if there are no names. Reads the
    /// smoke checks, so that a bad file is refused before anything starts, as is a request of the
    /// scenarios that another service answers.
    pub fn of(
        invocation: &Invocation,
        names: &[String],
        sabotage: bool,
    ) -> Result<Selection, Problem> {
        let scenarios = catalogue::select(names).map_err(Problem::usage)?;
        if sabotage {
            catalogue::can_sabotage(&scenarios).map_err(Problem::usage)?;
        }
        must_lead_to_their_service(&invocation.config).map_err(Problem::usage)?;
        let checks = SmokeChecks::read(&invocation.config, &invocation.context.workspace);
        Ok(Selection {
            scenarios,
            sabotage,
            checks: checks.map_err(Problem::usage)?,
        })
    }
}

/// Runs the scenarios, as the stage `verify` of the run.
pub async fn stage(
    run: &mut Run,
    invocation: &Invocation,
    running: &RunningEnvironment,
    selection: &Selection,
    interrupts: &mut Interrupts,
) -> Result<(), Problem> {
    let signal = tokio::select! {
        proven = prove(run, invocation, running, selection) => {
            proven?;
            return checked(run);
        }
        signal = interrupts.next() => signal,
    };
    tokio::select! {
        () = cancel(run, invocation, &running.environment, selection) => {}
        _ = interrupts.next() => {}
    }
    Err(interrupted(run, signal))
}

/// Runs the scenarios. The caller ends the stage.
pub async fn prove(
    run: &mut Run,
    invocation: &Invocation,
    running: &RunningEnvironment,
    selection: &Selection,
) -> Result<(), RunFolderError> {
    run.begin(Stage::Verify)?;
    run_scenarios(run, invocation, running, selection).await?;
    if run.checks().failed > 0 {
        keep_diagnostics(run, invocation, &running.environment).await?;
    }
    Ok(())
}

/// Collects diagnostics before anything is torn down.
async fn keep_diagnostics(
    run: &mut Run,
    invocation: &Invocation,
    environment: &Environment,
) -> Result<(), RunFolderError> {
    let is_ours = matches!(
        invocation.config.targets.get(&environment.target),
        Some(Target::Kind(_))
    );
    let (true, Some(cluster)) = (is_ours, &environment.cluster) else {
        return Ok(());
    };
    let kind = tools::own_or_on_path(&invocation.home.tools(), "kind");
    let (Ok(engine), Some(kind)) = (Engine::find(TIMEOUT).await, kind) else {
        return Ok(());
    };
    run.progress(Stage::Verify, "collecting diagnostics");
    let (folder, lacking) = diagnostics::collect(&engine, &kind, &cluster.name, run.folder()).await;
    run.note(Stage::Verify, diagnostics::in_words(&folder, &lacking))
}

async fn run_scenarios(
    run: &mut Run,
    invocation: &Invocation,
    running: &RunningEnvironment,
    selection: &Selection,
) -> Result<(), RunFolderError> {
    let RunningEnvironment {
        environment,
        credentials,
    } = running;
    let versions = match environment.releases() {
        Some(cluster) => match versions(cluster).await {
            Ok(versions) => versions,
            Err(error) => {
                let why = format!("the live colours are not known: {error}");
                run.note(Stage::Verify, why)?;
                BTreeMap::new()
            }
        },
        None => BTreeMap::new(),
    };
    let subject = Subject {
        environment,
        versions,
        entry: &environment.entry,
        credentials,
        version_sources: &invocation.config.versions,
        checks: &selection.checks,
        home: &invocation.home,
        check_deadline: invocation.config.deadlines.check,
        sabotage: selection.sabotage,
    };
    let (mut setup, mut upgrades) = (None, None);
    for scenario in &selection.scenarios {
        let mut needs = scenario.needs.iter();
        let lacking = needs.find_map(|need| environment.lacks(*need));
        match (lacking, scenario.family) {
            (Some(because), _) => scenario.skipped(run, &subject, &because).await?,
            (None, Family::Smoke) => smoke_from_everywhere(run, invocation, &subject).await?,
            (None, Family::BlueGreen(which)) => {
                if setup.is_none() {
                    setup = Some(ReleaseSetup::prepare(run, invocation, &subject).await);
                }
                match &setup {
                    Some(Ok(setup)) => {
                        blue_green::run(run, &setup.of(&subject), which).await?;
                    }
                    Some(Err(NotPrepared::Lacks(because))) => {
                        scenario.skipped(run, &subject, because).await?;
                    }
                    Some(Err(NotPrepared::Failed(why))) => {
                        scenario.failed(run, &subject, why.clone()).await?;
                    }
                    None => {}
                }
            }
            (None, Family::Rolling(which)) => {
                if upgrades.is_none() {
                    upgrades = Some(UpgradeSetup::prepare(run, invocation, &subject).await);
                }
                match &upgrades {
                    Some(Ok(setup)) => rolling::run(run, &setup.of(&subject), which).await?,
                    Some(Err(why)) => scenario.failed(run, &subject, why.clone()).await?,
                    None => {}
                }
            }
        }
    }
    if let Some(Ok(setup)) = &setup {
        blue_green::put_back(run, &setup.of(&subject)).await?;
    }
    if let Some(Ok(setup)) = &upgrades {
        rolling::put_back(run, &setup.of(&subject)).await?;
    }
    Ok(())
}

/// Runs the smoke scenario as the environment's users, and from inside its cluster if it has one.
async fn smoke_from_everywhere(
    run: &mut Run,
    invocation: &Invocation,
    subject: &Subject<'_>,
) -> Result<(), RunFolderError> {
    let environment = subject.environment;
    smoke::run(run, subject, smoke::NAME).await?;
    let Some(cluster) = &environment.cluster else {
        return Ok(());
    };
    let lacks = environment.lacks(Capability::Allowed(Action::Inside));
    if let Some(because) = lacks.or_else(|| inside::lacks_image(invocation, environment)) {
        return smoke::skipped(run, subject, smoke::FROM_INSIDE, &because).await;
    }
    let opened = inside::open(
        invocation,
        environment,
        cluster,
        &run.progress_reporter(Stage::Verify),
    )
    .await;
    match opened {
        Ok(tunnel) => {
            let entry = environment.entry.connected_to(tunnel.address());
            let from_inside = Subject {
                entry: &entry,
                versions: subject.versions.clone(),
                ..*subject
            };
            let proven = smoke::run(run, &from_inside, smoke::FROM_INSIDE).await;
            // If this fails, its pod ends by itself.
            let _ = tunnel.close().await;
            proven
        }
        Err(seen) => {
            let why = inside::not_reached(cluster, seen);
            smoke::unreachable(run, subject, smoke::FROM_INSIDE, why).await
        }
    }
}

/// Returns the live versions of the services that are released blue-green.
async fn versions(place: &ClusterPlace) -> Result<BTreeMap<String, String>, ClusterError> {
    let cluster = place.open().await?;
    Ok(live::versions(live::read(&cluster).await?))
}

/// Rolls back the releases of a cancelled run's scenarios in a cluster that stays.
async fn cancel(
    run: &Run,
    invocation: &Invocation,
    environment: &Environment,
    selection: &Selection,
) {
    let can = |capability| environment.lacks(capability).is_none();
    let selects = |is_of: fn(Family) -> bool| selection.scenarios.iter().any(|it| is_of(it.family));
    let releases = can(Capability::BlueGreen) && selects(|it| matches!(it, Family::BlueGreen(_)));
    let upgrades = can(Capability::Upgrades) && selects(|it| matches!(it, Family::Rolling(_)));
    let output = &invocation.context.output;
    if releases || upgrades {
        output.line(
            "cancelled: a release in progress is ended first; a second signal exits immediately",
        );
    }
    let Some(place) = environment.releases() else {
        return;
    };
    let Ok(cluster) = place.open().await else {
        return;
    };
    let client = || cluster.client().clone();
    // If this fails, the pods end by themselves.
    if environment.cluster.is_some() && can(Capability::Allowed(Action::Inside)) {
        let _ = tunnel::close_all(client(), INSIDE).await;
    }
    if environment.cluster.is_some() && (releases || upgrades) {
        let (namespace, ours) = (
            &invocation.config.platform.helpers_namespace,
            Owner::this_process(),
        );
        let _ = prober::close_all(client(), namespace, &ours).await;
    }
    let show = |problem: Problem| output.send(OutputMessage::Problem(&problem));
    if releases && let Err(error) = releases::end(invocation, &cluster, run.id()).await {
        show(Problem::new(error.exit_code(), error));
    }
    if upgrades && let Err(problem) = upgrades::end(invocation, environment, &cluster).await {
        show(problem);
    }
}
