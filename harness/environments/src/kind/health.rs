//! The health of a cluster and of the platform on it.

use std::time::Duration;

use crate::environment::{ClusterPlace, Environment};
use base::proxies::Proxies;
use helm::live::{self, Live};
use kubernetes::ClusterError;
use kubernetes::rollout::{self, Rollout};
use kubernetes::workloads::{Selection, Workloads};

/// An API server or an ingress that takes longer is unhealthy.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The problems of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterProblems {
    /// Problems of the cluster, which only a new one solves. One line each.
    pub cluster: Vec<String>,
    /// Problems of the platform, which a deployment may solve. One line each.
    pub platform: Vec<String>,
}

/// Checks the cluster of an environment that is up.
pub async fn check(environment: &Environment, place: &ClusterPlace) -> ClusterProblems {
    let (platform, entry) = tokio::join!(platform(place), entry(environment));
    match platform {
        Err(error) => ClusterProblems {
            cluster: vec![error.to_string()],
            platform: Vec::new(),
        },
        Ok((workloads, live)) => ClusterProblems {
            cluster: Vec::new(),
            platform: of_services(&environment.services, &workloads, &live)
                .chain(entry.err())
                .collect(),
        },
    }
}

async fn platform(place: &ClusterPlace) -> Result<(Workloads, Vec<Live>), ClusterError> {
    let cluster = place.open().await?;
    cluster.version(TIMEOUT).await?;
    tokio::try_join!(
        Workloads::look(&cluster, Selection::All),
        live::read(&cluster)
    )
}

/// Problems of the live Deployments: an idle colour may be in any state.
fn of_services(
    services: &[String],
    workloads: &Workloads,
    live: &[Live],
) -> impl Iterator<Item = String> {
    services.iter().filter_map(|service| {
        let live = live.iter().find(|it| it.service == *service);
        let name = live.map_or_else(|| service.clone(), Live::deployment);
        let mut deployments = workloads.deployments.iter();
        let state = match deployments.find(|it| it.metadata.name.as_ref() == Some(&name)) {
            None => format!("its Deployment {name} does not exist"),
            Some(deployment) => match rollout::state_of(workloads, deployment) {
                Rollout::Complete => return None,
                Rollout::InProgress { so_far, .. } => so_far,
                Rollout::Stuck(problem) => problem.to_string(),
            },
        };
        Some(format!("{service}: {state}"))
    })
}

async fn entry(environment: &Environment) -> Result<(), String> {
    let url = environment.site_url();
    let failure = |what: String| format!("the ingress at {url}: {what}");
    let host = environment.site_host.as_str();
    let http = environment.entry.client([host], &Proxies::default());
    let http = http.map_err(|error| failure(error.to_string()))?;
    let request = http.get(&url).timeout(TIMEOUT);
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(failure(answer.status().to_string())),
        Err(error) => Err(failure(base::chain(&error))),
    }
}
