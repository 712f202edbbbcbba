//! The stage `verify`: the scenarios, against an environment that is up.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::capability::Capability;
use harness::cluster::ClusterError;
use harness::cluster::access::INSIDE;
use harness::config::Target;
use harness::config::remote::Action;
use harness::engine::{Engine, PATIENCE};
use harness::environment::{ClusterPlace, Credentials, Environment};
use harness::interrupts::Interrupts;
use harness::kind::{INGRESS_SERVICE, diagnostics};
use harness::prober::{self, Owner};
use harness::release::{PLATFORM, live};
use harness::run::event::Stage;
use harness::run::{Run, RunFolderError};
use harness::service::Service;
use harness::tools;
use harness::tunnel::{self, Tunnel};
use scenarios::catalogue::{self, Entry, Family};
use scenarios::{Mismatch, Subject, blue_green, smoke};

use super::blue_green_ground::{self, Prepared};
use super::prober_image;
use super::workplace::Workplace;
use crate::problem::Problem;

/// From asking for a pod inside the cluster until it runs.
const TUNNEL_DEADLINE: Duration = Duration::from_secs(60);

/// What is proven of an environment.
pub struct Selection {
    scenarios: Vec<&'static Entry>,
    /// Whether a fault is planted that breaks each claim.
    sabotage: bool,
}

impl Selection {
    /// The scenarios and families of these names; all that there are where none is named.
    pub fn of(names: &[String], sabotage: bool) -> Result<Selection, Problem> {
        let scenarios = catalogue::select(names).map_err(Problem::usage)?;
        if sabotage {
            catalogue::can_sabotage(&scenarios).map_err(Problem::usage)?;
        }
        Ok(Selection {
            scenarios,
            sabotage,
        })
    }
}

/// Proves the environment. Whoever calls ends the stage.
pub async fn prove(
    run: &mut Run,
    place: &Workplace,
    environment: &Environment,
    credentials: &Credentials,
    selection: &Selection,
) -> Result<(), RunFolderError> {
    run.begin(Stage::Verify)?;
    look(run, place, environment, credentials, selection).await?;
    if run.checks().failed > 0 {
        keep_diagnostics(run, place, environment).await?;
    }
    Ok(())
}

/// While what failed is still there.
async fn keep_diagnostics(
    run: &mut Run,
    place: &Workplace,
    environment: &Environment,
) -> Result<(), RunFolderError> {
    let is_ours = matches!(
        place.config.targets.get(&environment.target),
        Some(Target::Kind(_))
    );
    let (true, Some(cluster)) = (is_ours, &environment.cluster) else {
        return Ok(());
    };
    let kind = tools::own_or_on_path(&place.home.tools(), "kind");
    let (Ok(engine), Some(kind)) = (Engine::find(PATIENCE).await, kind) else {
        return Ok(());
    };
    run.progress(Stage::Verify, "collecting diagnostics");
    let (folder, lacking) = diagnostics::collect(&engine, &kind, &cluster.name, run.folder()).await;
    run.note(Stage::Verify, diagnostics::in_words(&folder, &lacking))
}

async fn look(
    run: &mut Run,
    place: &Workplace,
    environment: &Environment,
    credentials: &Credentials,
    selection: &Selection,
) -> Result<(), RunFolderError> {
    let versions = match environment.releases() {
        Some(cluster) => match versions(cluster).await {
            Ok(versions) => versions,
            Err(error) => {
                let why = format!("which colours are live is not known: {error}");
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
        home: &place.home,
        check_deadline: place.config.deadlines.check,
        sabotage: selection.sabotage,
    };
    let mut prepared = None;
    for scenario in &selection.scenarios {
        let mut needs = scenario.needs.iter();
        let lacking = needs.find_map(|need| environment.lacks(*need));
        match (lacking, scenario.family) {
            (Some(because), _) => scenario.skipped(run, &subject, &because).await?,
            (None, Family::Smoke) => smoke_from_everywhere(run, place, &subject).await?,
            (None, Family::BlueGreen(which)) => {
                if prepared.is_none() {
                    prepared = Some(Prepared::of(run, place, &subject).await);
                }
                match &prepared {
                    Some(Ok(prepared)) => {
                        blue_green::run(run, &prepared.ground(&subject), which).await?;
                    }
                    Some(Err(why)) => scenario.failed(run, &subject, why.clone()).await?,
                    None => {}
                }
            }
        }
    }
    match &prepared {
        Some(Ok(prepared)) => blue_green::put_back(run, &prepared.ground(&subject)).await,
        _ => Ok(()),
    }
}

/// As the environment's users see it, and from inside where it has an inside.
async fn smoke_from_everywhere(
    run: &mut Run,
    place: &Workplace,
    subject: &Subject<'_>,
) -> Result<(), RunFolderError> {
    let environment = subject.environment;
    smoke::run(run, subject, smoke::NAME).await?;
    let Some(cluster) = &environment.cluster else {
        return Ok(());
    };
    let lacks = environment.lacks(Capability::Allowed(Action::Inside));
    if let Some(because) = lacks.or_else(|| prober_image::not_named(place, environment)) {
        return smoke::skipped(run, subject, smoke::FROM_INSIDE, &because).await;
    }
    let opened = inside(place, environment, cluster, &run.teller(Stage::Verify)).await;
    match opened {
        Ok(tunnel) => {
            let entry = environment.entry.by_way_of(tunnel.address());
            let from_inside = Subject {
                entry: &entry,
                versions: subject.versions.clone(),
                ..*subject
            };
            let proven = smoke::run(run, &from_inside, smoke::FROM_INSIDE).await;
            // Its pod ends by itself where this fails.
            let _ = tunnel.close().await;
            proven
        }
        Err(seen) => {
            let why = no_way_in(cluster, seen);
            smoke::no_way(run, subject, smoke::FROM_INSIDE, why).await
        }
    }
}

/// Of the services that are released blue-green.
async fn versions(place: &ClusterPlace) -> Result<BTreeMap<Service, String>, ClusterError> {
    let cluster = place.open().await?;
    Ok(live::versions(live::look(&cluster, PLATFORM).await?))
}

/// Takes back what a proof that was called off, by its run, has in a cluster that stays; a
/// second signal leaves at once.
pub async fn leave(
    run: &Run,
    place: &Workplace,
    environment: &Environment,
    selection: &Selection,
    interrupts: &mut Interrupts,
) {
    let can = |capability| environment.lacks(capability).is_none();
    let is_release = |it: &&'static Entry| matches!(it.family, Family::BlueGreen(_));
    let releases = can(Capability::BlueGreen) && selection.scenarios.iter().any(is_release);
    if releases {
        say!("called off: a release under way is ended first; once more leaves at once");
    }
    let taking_back = async {
        let Some(its) = environment.releases() else {
            return;
        };
        let Ok(cluster) = its.open().await else {
            return;
        };
        // Pods end by themselves where this fails.
        if environment.cluster.is_some() && can(Capability::Allowed(Action::Inside)) {
            let _ = tunnel::close_all(cluster.client().clone(), INSIDE).await;
        }
        if !releases {
            return;
        }
        if environment.cluster.is_some() {
            let (client, ours) = (cluster.client().clone(), Owner::this_process());
            let _ = prober::close_all(client, prober::MONITORING, &ours).await;
        }
        if let Err(error) = blue_green_ground::end(place, &cluster, run.id()).await {
            Problem::new(error.exit_code(), error).show();
        }
    };
    tokio::select! {
        () = taking_back => {}
        _ = interrupts.next() => {}
    }
}

async fn inside(
    place: &Workplace,
    environment: &Environment,
    cluster: &ClusterPlace,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Tunnel, String> {
    let image = prober_image::of(place, environment, progress).await?;
    let cluster = cluster.open().await;
    let cluster = cluster.map_err(|error| error.to_string())?;
    let client = cluster.client().clone();
    let opened = Tunnel::open(client, INSIDE, &image, INGRESS_SERVICE, TUNNEL_DEADLINE);
    opened.await.map_err(|error| error.to_string())
}

fn no_way_in(place: &ClusterPlace, seen: String) -> Mismatch {
    let kubeconfig = place.kubeconfig.display();
    Mismatch {
        expected: "a pod that connections go through".into(),
        seen,
        look_at: "the events of the namespace default".into(),
        next: format!("kubectl --kubeconfig {kubeconfig} --namespace default get events"),
    }
}
