//! How a cluster and the platform on it are right now.

use std::time::Duration;

use crate::cluster::ClusterError;
use crate::cluster::rollout::{self, Rollout};
use crate::cluster::workloads::Workloads;
use crate::environment::{ClusterPlace, Environment};
use crate::proxies::Proxies;
use crate::release::live::{self, Live};
use crate::release::{PLATFORM, selector_of};
use crate::service::Service;

/// An API server or an ingress that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// With the cluster: only a new one helps. One line each.
    pub cluster: Vec<String>,
    /// With the platform on it: deploying it again may help. One line each.
    pub platform: Vec<String>,
}

/// Looks at the cluster of an environment that is up.
pub async fn look(environment: &Environment, place: &ClusterPlace) -> Trouble {
    let (platform, entry) = tokio::join!(platform(place), entry(environment));
    match platform {
        Err(error) => Trouble {
            cluster: vec![error.to_string()],
            platform: Vec::new(),
        },
        Ok((workloads, live)) => Trouble {
            cluster: Vec::new(),
            platform: of_services(&workloads, &live).chain(entry.err()).collect(),
        },
    }
}

async fn platform(place: &ClusterPlace) -> Result<(Workloads, Vec<Live>), ClusterError> {
    let cluster = place.open().await?;
    cluster.version(PATIENCE).await?;
    let of_platform = selector_of(PLATFORM);
    tokio::try_join!(
        Workloads::look(&cluster, &of_platform),
        live::look(&cluster, PLATFORM)
    )
}

/// Of what serves: a colour that nobody uses may be in any state.
fn of_services(workloads: &Workloads, live: &[Live]) -> impl Iterator<Item = String> {
    Service::ALL.into_iter().filter_map(|service| {
        let live = live.iter().find(|it| it.service == service);
        let name = live.map_or_else(|| service.name().to_owned(), Live::deployment);
        let mut deployments = workloads.deployments.iter();
        let state = match deployments.find(|it| it.metadata.name.as_ref() == Some(&name)) {
            None => format!("its Deployment {name} is not there"),
            Some(deployment) => match rollout::judge(workloads, deployment) {
                Rollout::Complete => return None,
                Rollout::UnderWay { so_far, .. } => so_far,
                Rollout::Stuck(trouble) => trouble.to_string(),
            },
        };
        Some(format!("{service}: {state}"))
    })
}

async fn entry(environment: &Environment) -> Result<(), String> {
    let url = environment.site_url();
    let said = |what: String| format!("the ingress at {url}: {what}");
    let host = environment.site_host.as_str();
    let http = environment.entry.client([host], &Proxies::default());
    let http = http.map_err(|error| said(error.to_string()))?;
    let asked = http.get(&url).timeout(PATIENCE);
    match asked.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(said(answer.status().to_string())),
        Err(error) => Err(said(crate::chain(&error))),
    }
}
