//! How a cluster and the platform on it are right now.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;

use crate::cluster::rollout::{self, Rollout};
use crate::cluster::workloads::Workloads;
use crate::cluster::{Cluster, ClusterError};
use crate::environment::{ClusterPlace, Environment};
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
    let (workloads, entry) = tokio::join!(workloads(place), entry(environment));
    match workloads {
        Err(error) => Trouble {
            cluster: vec![error.to_string()],
            platform: Vec::new(),
        },
        Ok(workloads) => Trouble {
            cluster: Vec::new(),
            platform: of_services(&workloads).chain(entry.err()).collect(),
        },
    }
}

async fn workloads(place: &ClusterPlace) -> Result<Workloads, ClusterError> {
    let cluster = Cluster::open(&place.kubeconfig, &place.context, &place.namespace).await?;
    cluster.version(PATIENCE).await?;
    Workloads::look(&cluster, &selector_of(PLATFORM)).await
}

fn of_services(workloads: &Workloads) -> impl Iterator<Item = String> {
    Service::ALL.into_iter().filter_map(|service| {
        let is = |it: &&Deployment| it.metadata.name.as_deref() == Some(service.name());
        let state = match workloads.deployments.iter().find(is) {
            None => "its Deployment is not there".to_owned(),
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
    let http = environment.entry.client([host]);
    let http = http.map_err(|error| said(error.to_string()))?;
    let asked = http.get(&url).timeout(PATIENCE);
    match asked.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(said(answer.status().to_string())),
        Err(error) => Err(said(crate::chain(&error))),
    }
}
