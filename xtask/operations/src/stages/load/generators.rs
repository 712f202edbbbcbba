//! Generators in pods of the environment's cluster, if one is not enough.

use std::time::Duration;

use base::exit::ExitCode;
use base::run::event::Failure;
use environments::capability::Capability;
use environments::config::Target;
use environments::config::load::Traffic;
use environments::environment::Environment;
use environments::kind::INGRESS_SERVICE;
use environments::remote::Site;
use kubernetes::Action;
use kubernetes::permissions::INSIDE;
use loadtests::arrivals::ArrivalsError;
use loadtests::generators::{Generators, PART};
use miette::Diagnostic;
use thiserror::Error;

use super::order::LoadOrder;
use crate::invocation::Invocation;
use crate::problem::Problem;
use crate::stages::redeploy::KindDeployment;

/// The timeout to stop generators after a second signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Several generators cannot send this load.
#[derive(Debug, Error, Diagnostic)]
enum NoGenerators {
    #[error("--generators is for arrivals, and the users of profile {0} wait for their answers")]
    #[diagnostic(help("profiles with engine = \"open\" have arrivals: steady, stress, spike"))]
    Closed(String),
    #[error("--out is made from a log of every request, which several generators do not write")]
    #[diagnostic(help("use --summary-export, or leave --generators out"))]
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

/// Checks that several generators can send this load, on any target.
pub fn check(order: &LoadOrder<'_>) -> Result<(), Problem> {
    let wrong = match (&order.profile.traffic, order.generators) {
        (_, None) => return Ok(()),
        (Traffic::Closed { .. }, _) => NoGenerators::Closed(order.name.to_owned()),
        _ if order.out.is_some() => NoGenerators::Out,
        _ => return Ok(()),
    };
    Err(Problem::usage(wrong))
}

/// Checks that a remote target has generators, and allows them.
pub fn check_remote(site: Site<'_>) -> Result<(), Problem> {
    let name = site.name;
    if !site.target.allow.contains(&Action::Inside) {
        let because = Capability::Allowed(Action::Inside).reason_missing_on(name);
        return Err(Problem::new(
            ExitCode::Refused,
            NoGenerators::NotAllowed(because),
        ));
    }
    match site.target.generator_image {
        Some(_) => Ok(()),
        None => Err(Problem::usage(NoGenerators::NoImage(name.to_owned()))),
    }
}

/// Checks that the environment has a cluster for generators.
pub fn check_environment(environment: &Environment) -> Result<(), Problem> {
    match environment.cluster {
        Some(_) => Ok(()),
        None => Err(Problem::usage(NoGenerators::NoCluster(
            environment.target.clone(),
        ))),
    }
}

/// Prepares generators in the environment's cluster. Brings their image to the nodes of a kind
/// cluster.
pub async fn prepare(
    invocation: &Invocation,
    environment: &Environment,
    generators: u16,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Generators, Failure> {
    let failed = |seen: String| Failure {
        what: "there are no generators in the cluster".into(),
        expected: "their image on the nodes, and a cluster that answers".into(),
        seen,
        look_at: format!("the cluster of the environment {}", environment.name),
        next: format!("cargo xtask images build {PART}"),
    };
    let Some(place) = &environment.cluster else {
        return Err(failed("the environment is not on a cluster".into()));
    };
    let image = match invocation.target() {
        Target::Remote(target) => target.generator_image.clone().unwrap_or_default(),
        Target::Local(_) | Target::Kind(_) => {
            let deployment = KindDeployment::find(invocation, environment).await;
            let deployment = deployment.map_err(|problem| failed(problem.to_string()))?;
            let brought = deployment.bring_helper(PART, progress).await;
            brought.map_err(|error| failed(error.to_string()))?
        }
    };
    let cluster = place.open_in(INSIDE).await;
    let (ingress, port) = INGRESS_SERVICE;
    Ok(Generators {
        cluster: cluster.map_err(|error| failed(error.to_string()))?,
        image,
        ingress: format!("{ingress}:{port}"),
        count: usize::from(generators),
    })
}

/// The failure of generators that did not send the load.
pub fn failed(generators: &Generators, error: &ArrivalsError) -> Failure {
    Failure {
        what: format!("{} generators did not send the load", generators.count),
        expected: "all arrivals sent".into(),
        seen: error.to_string(),
        look_at: format!("the events of the namespace {INSIDE}"),
        next: format!("{} get events", generators.cluster.kubectl()),
    }
}

/// Stops all generators, without waiting for their results.
pub async fn stop(environment: &Environment) {
    let stopping = async {
        if let Some(place) = &environment.cluster
            && let Ok(cluster) = place.open_in(INSIDE).await
        {
            // If this fails, they stop at the end of their load.
            let _ = kubernetes::indexed_job::end_all(&cluster, PART).await;
        }
    };
    let _ = tokio::time::timeout(STOP_TIMEOUT, stopping).await;
}
