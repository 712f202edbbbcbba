//! Who makes the load where one generator is not enough: pods of the environment's cluster.

use std::time::Duration;

use harness::capability::Capability;
use harness::cluster::access::INSIDE;
use harness::config::Target;
use harness::config::load::{Profile, Traffic};
use harness::config::remote::Action;
use harness::environment::Environment;
use harness::exit::ExitCode;
use harness::images::{self, Supply};
use harness::kind::INGRESS_SERVICE;
use harness::remote::Site;
use harness::run::event::Failure;
use loadtests::arrivals::ArrivalsError;
use loadtests::generators::{Crew, PART};
use miette::Diagnostic;
use thiserror::Error;

use super::deploy;
use super::workplace::Workplace;
use crate::cli::LoadRun;
use crate::problem::Problem;

/// Whoever leaves at once does not wait for longer.
const LEAVING: Duration = Duration::from_secs(5);

/// Several generators cannot make this load.
#[derive(Debug, Error, Diagnostic)]
enum NoCrew {
    #[error("--generators is for arrivals, and the users of profile {0} wait for their answers")]
    #[diagnostic(help("profiles with engine = \"open\" have arrivals: steady, stress, spike"))]
    Closed(String),
    #[error("--out is made from a log of every request, which several generators do not write")]
    #[diagnostic(help("--summary-export can be had; or leave --generators out"))]
    Out,
    #[error("--generators is for a cluster, and the target {0} is processes of this machine")]
    #[diagnostic(help("`--target kind` is one; `cargo xtask up --target kind` brings it up"))]
    NoCluster(String),
    #[error("the target {0} has no generator_image")]
    #[diagnostic(help(
        "in harness.toml, the image of a generator that its nodes can pull: `cargo xtask images build generator` makes one"
    ))]
    NoImage(String),
    #[error("{0}")]
    #[diagnostic(help("generators are pods in its namespace `{INSIDE}`: docs/remote.md"))]
    NotAllowed(String),
}

/// Whether several generators could make this load, whatever it is put on.
pub fn check(arguments: &LoadRun, profile: &Profile) -> Result<(), Problem> {
    let wrong = match (&profile.traffic, arguments.generators) {
        (_, None) => return Ok(()),
        (Traffic::Closed { .. }, _) => NoCrew::Closed(arguments.profile.clone()),
        _ if arguments.out.is_some() => NoCrew::Out,
        _ => return Ok(()),
    };
    Err(Problem::usage(wrong))
}

/// Whether a remote target has them, and allows them.
pub fn check_remote(site: Site<'_>) -> Result<(), Problem> {
    let name = site.name;
    if !site.target.allow.contains(&Action::Inside) {
        let because = Capability::Allowed(Action::Inside).lacking_on(name);
        return Err(Problem::new(ExitCode::Refused, NoCrew::NotAllowed(because)));
    }
    match site.target.generator_image {
        Some(_) => Ok(()),
        None => Err(Problem::usage(NoCrew::NoImage(name.to_owned()))),
    }
}

/// Whether the environment has a cluster for them.
pub fn check_environment(environment: &Environment) -> Result<(), Problem> {
    match environment.cluster {
        Some(_) => Ok(()),
        None => {
            let target = environment.target.clone();
            Err(Problem::usage(NoCrew::NoCluster(target)))
        }
    }
}

/// So many generators of the environment's cluster; where it is a kind cluster, its nodes have
/// their image then.
pub async fn gather(
    place: &Workplace,
    environment: &Environment,
    generators: u16,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Crew, Failure> {
    let failed = |seen: String| Failure {
        what: "there are no generators in the cluster".into(),
        expected: "their image on the nodes, and a cluster that answers".into(),
        seen,
        look_at: format!("the cluster of the environment {}", environment.name),
        next: format!("cargo xtask images build {PART}"),
    };
    let Some(there) = &environment.cluster else {
        return Err(failed("the environment is not on a cluster".into()));
    };
    let image = match place.target() {
        Target::Remote(target) => target.generator_image.clone().unwrap_or_default(),
        Target::Local(_) | Target::Kind(_) => {
            let site = deploy::Site::find(place, environment).await;
            let site = site.map_err(|problem| failed(problem.to_string()))?;
            let (engine, workshop, cluster) = site.images();
            let brought =
                images::on_nodes(engine, workshop, cluster, PART, Supply::Auto, progress).await;
            brought.map_err(|error| failed(error.to_string()))?
        }
    };
    let cluster = there.open_in(INSIDE).await;
    let (ingress, port) = INGRESS_SERVICE;
    Ok(Crew {
        cluster: cluster.map_err(|error| failed(error.to_string()))?,
        image,
        ingress: format!("{ingress}:{port}"),
        generators: usize::from(generators),
    })
}

/// That they did not make the load.
pub fn failed(crew: &Crew, error: &ArrivalsError) -> Failure {
    Failure {
        what: format!("{} generators did not make the load", crew.generators),
        expected: "arrivals, to their end".into(),
        seen: error.to_string(),
        look_at: format!("the events of the namespace {INSIDE}"),
        next: format!("{} get events", crew.cluster.kubectl()),
    }
}

/// Ends generators that nobody waits for any more.
pub async fn dismiss(environment: &Environment) {
    let ending = async {
        let Some(there) = &environment.cluster else {
            return;
        };
        if let Ok(cluster) = there.open_in(INSIDE).await {
            // The cluster ends them when their time is up, where this fails.
            let _ = harness::indexed_job::end_all(&cluster, PART).await;
        }
    };
    let _ = tokio::time::timeout(LEAVING, ending).await;
}
