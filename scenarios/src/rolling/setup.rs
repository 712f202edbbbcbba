//! What the scenarios of the family act on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use environments::config::RollingConfig;
use environments::releases;
use helm::{DeployError, Deployed, Release};
use kube::ResourceExt;
use kubernetes::Cluster;
use kubernetes::rollout::{self, Rollout};
use kubernetes::workloads::Workloads;

use super::Rolling;
use crate::{Mismatch, Scenario, Subject};

/// The subject of the scenarios.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The environment, and the address for requests.
    pub subject: &'a Subject<'a>,
    /// The cluster of the releases.
    pub cluster: &'a Cluster,
    /// The helm program.
    pub helm: &'a Path,
    /// The releases of the deployed version, in the order of their installation.
    pub releases: &'a [Release],
    /// The same of another version, whose images are on the nodes.
    pub next: &'a [Release],
    /// The same of a version whose images are nowhere.
    pub absent: &'a [Release],
    /// The releases of the deployed version, with values with which pods never become ready.
    pub unready: Option<&'a [Release]>,
    /// A second release of the chart of the first one whose values have the version.
    pub second: Option<&'a Release>,
    /// The requests during an upgrade.
    pub probes: &'a RollingConfig,
    /// The prober's image on the nodes.
    pub prober_image: &'a str,
    /// The namespace of the prober's pod.
    pub helpers_namespace: &'a str,
    /// From `helm upgrade` to a complete rollout.
    pub deadline: Duration,
}

/// The images of each Deployment of a release.
pub type Images = BTreeMap<String, Vec<String>>;

impl Setup<'_> {
    /// Returns what the configuration lacks for the scenario, to complete "skipped, because".
    pub fn missing(&self, which: Rolling) -> Option<String> {
        if self.probes.probes.is_empty() {
            return Some("harness.toml has no rolling.probes to request meanwhile".to_owned());
        }
        match which {
            Rolling::Upgrade | Rolling::BadImage if self.versioned().is_none() => {
                Some("{version} is in the values of no release".to_owned())
            }
            Rolling::NeverReady if self.unready.is_none() => {
                Some("harness.toml has no rolling.unready".to_owned())
            }
            Rolling::TwoReleases if self.second.is_none() => {
                Some("harness.toml has no rolling.second_release".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the position of the first release whose values have the version.
    pub fn versioned(&self) -> Option<usize> {
        releases::versioned(self.releases, self.next)
    }

    /// Returns whether the values of this release have the version.
    pub fn has_version(&self, release: &Release) -> bool {
        let mut pairs = self.releases.iter().zip(self.next);
        let named = pairs.find(|(one, _)| one.name == release.name);
        named.is_some_and(|(one, other)| one.overrides != other.overrides)
    }

    /// Deploys a release, and waits until its rollout is complete.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn deploy(
        &self,
        scenario: &mut Scenario<'_>,
        release: &Release,
    ) -> Result<Deployed, DeployError> {
        self.deploy_within(scenario, release, self.deadline).await
    }

    /// As [`Setup::deploy`], within another deadline.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn deploy_within(
        &self,
        scenario: &mut Scenario<'_>,
        release: &Release,
        deadline: Duration,
    ) -> Result<Deployed, DeployError> {
        let progress = scenario.progress_reporter();
        helm::deploy(self.cluster, self.helm, release, deadline, &progress).await
    }

    /// Returns what runs of a release.
    ///
    /// # Errors
    /// The API server's error.
    pub async fn workloads(&self, release: &Release) -> Result<Workloads, Mismatch> {
        let workloads = Workloads::look(self.cluster, release.workloads()).await;
        workloads.map_err(|error| self.mismatch("the workloads of the release", error))
    }

    /// Returns the images of a release's Deployments.
    ///
    /// # Errors
    /// The API server's error.
    pub async fn images(&self, release: &Release) -> Result<Images, Mismatch> {
        let workloads = self.workloads(release).await?;
        let images = workloads.deployments.iter().map(|deployment| {
            let pod = deployment.spec.template.spec.iter();
            let containers = pod.flat_map(|it| &it.containers);
            let images = containers.filter_map(|it| it.image.clone());
            (deployment.name_any(), images.collect())
        });
        Ok(images.collect())
    }

    /// Returns the Deployments of a release whose rollout is not complete, with their state.
    ///
    /// # Errors
    /// The API server's error.
    pub async fn incomplete(&self, release: &Release) -> Result<Vec<String>, Mismatch> {
        let workloads = self.workloads(release).await?;
        let states =
            workloads.deployments.iter().filter_map(|deployment| {
                match rollout::state_of(&workloads, deployment) {
                    Rollout::Complete => None,
                    state => Some(format!("{}: {state:?}", deployment.name_any())),
                }
            });
        Ok(states.collect())
    }

    /// Returns a mismatch of the releases' state in the cluster.
    pub fn mismatch(&self, expected: &str, seen: impl std::fmt::Display) -> Mismatch {
        Mismatch {
            expected: expected.to_owned(),
            seen: seen.to_string(),
            look_at: format!("{} get deployments,pods", self.cluster.kubectl()),
            next: format!("{} history {}", self.cluster.helm(), self.releases[0].name),
        }
    }
}
