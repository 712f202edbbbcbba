//! Deploys a version of the platform to a cluster that is up.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use miette::Diagnostic;
use serde_json::json;
use thiserror::Error;

use crate::chart_check::{self, ChartCheckError, ClusterContents, Destination};
use crate::config::{Config, KindTarget};
use crate::environment::ClusterPlace;
use crate::releases::{self, TargetValues};
use base::exit::ExitCode;
use base::home::Home;
use base::run::event::Failure;
use helm::{DeployError, Deployed, Release};
use kubernetes::apply::FIELD_MANAGER;
use kubernetes::rollout;
use kubernetes::workloads::Workloads;
use kubernetes::{Cluster, ClusterError};
use machine::engine::Engine;
use machine::images::{self, ForNodes, ImageError, Supply, Workshop};

/// The annotation on a Deployment's pods with the image that they were restarted for.
const IMAGE_ANNOTATION: &str = "trii.rehearsal/image";

/// How long the API server may take to say its version.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A version to deploy, and what the deployment needs.
pub struct Deploy<'a> {
    /// The cluster's engine.
    pub engine: &'a Engine,
    /// The helm program.
    pub helm: &'a Path,
    /// The source of images.
    pub workshop: &'a Workshop,
    /// The configuration.
    pub config: &'a Config,
    /// The target.
    pub target: &'a KindTarget,
    /// The repository.
    pub workspace: &'a Path,
    /// The harness home, with the charts of registries.
    pub home: &'a Home,
    /// The cluster.
    pub place: &'a ClusterPlace,
    /// The version: an image's tag.
    pub version: &'a str,
    /// Where the image may come from.
    pub supply: Supply,
}

/// Why the version is not deployed.
#[derive(Debug, Error, Diagnostic)]
pub enum NotDeployed {
    /// The charts do not fit harness.toml. Nothing was changed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Charts(#[from] ChartCheckError),
    /// Its image is not available, or not on the nodes.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Image(#[from] ImageError),
    /// The API server refused a request, or did not answer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// The release failed.
    #[error("{}", .0.seen)]
    Release(Box<Failure>),
}

impl NotDeployed {
    /// Returns the exit code of a run that fails with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            NotDeployed::Charts(error) => error.exit_code(),
            _ => ExitCode::NoEnvironment,
        }
    }

    /// Returns the failure for the report.
    pub fn failure(self) -> Failure {
        let what = "the version is not deployed".to_owned();
        let seen = self.to_string();
        let (expected, look_at, next) = match self {
            NotDeployed::Release(failure) => return *failure,
            NotDeployed::Charts(error) => return error.failure(),
            NotDeployed::Image(_) => (
                "the platform's image on every node",
                "fixtures/images",
                "cargo xtask images list",
            ),
            NotDeployed::Cluster(_) => (
                "an API server that answers and permits this",
                "cargo xtask status",
                "cargo xtask up",
            ),
        };
        Failure {
            what,
            expected: expected.to_owned(),
            seen,
            look_at: look_at.to_owned(),
            next: next.to_owned(),
        }
    }
}

impl Deploy<'_> {
    /// Compares the charts with the configuration, and then deploys the version, one release after
    /// the other. Waits until the rollout of each is complete, `deadline` at most.
    ///
    /// # Errors
    /// [`NotDeployed`]; the old pods continue to serve.
    pub async fn run(
        &self,
        deadline: Duration,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<Deployed>, NotDeployed> {
        let cluster = self.place.open().await?;
        let releases = self.releases();
        for note in self.check_charts(&cluster, &releases).await? {
            progress(&note);
        }
        let loaded = self.images(progress).await?;
        let mut all = Vec::new();
        for release in releases {
            let failure = |error: DeployError| {
                NotDeployed::Release(Box::new(error.failure(&cluster, &release)))
            };
            let deploying = helm::deploy(&cluster, self.helm, &release, deadline, progress).await;
            let mut deployed = deploying.map_err(failure)?;
            // The tag is the same, so the release does not show the new content.
            if !deployed.changed && restart(&cluster, &release, &loaded).await? {
                progress("an image has changed: its pods restart");
                let workloads = release.workloads();
                let complete = rollout::complete(&cluster, workloads, deadline, progress).await;
                complete.map_err(|error| failure(error.into()))?;
                deployed.changed = true;
            }
            all.push(deployed);
        }
        Ok(all)
    }

    /// Compares the charts with the configuration, as a deployment does, and returns what it would
    /// change, as a difference of manifests.
    ///
    /// # Errors
    /// [`NotDeployed`].
    pub async fn difference(
        &self,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<String, NotDeployed> {
        let cluster = self.place.open().await?;
        let releases = self.releases();
        for note in self.check_charts(&cluster, &releases).await? {
            progress(&note);
        }
        let mut differences = Vec::new();
        for release in releases {
            let difference = helm::difference(&cluster, self.helm, &release).await;
            differences.push(difference.map_err(|error| {
                NotDeployed::Release(Box::new(error.failure(&cluster, &release)))
            })?);
        }
        Ok(releases::joined(differences))
    }

    /// Returns the releases of the version, in the order of their installation.
    pub fn releases(&self) -> Vec<Release> {
        releases::all(self.config, &self.values(), self.places(), self.version)
    }

    /// See [`releases::unready`].
    pub fn unready_releases(&self) -> Option<Vec<Release>> {
        releases::unready(self.config, &self.values(), self.places(), self.version)
    }

    /// See [`releases::second`].
    pub fn second_release(&self) -> Option<Release> {
        releases::second(self.config, &self.values(), self.places(), self.version)
    }

    fn places(&self) -> (&Path, &Home) {
        (self.workspace, self.home)
    }

    fn values(&self) -> TargetValues<'_> {
        TargetValues::of_kind(self.target, self.place.backing_services.as_deref())
    }

    async fn check_charts(
        &self,
        cluster: &Cluster,
        releases: &[Release],
    ) -> Result<Vec<String>, NotDeployed> {
        let kubernetes = cluster.version(TIMEOUT).await?;
        let contents = ClusterContents::of_existing(cluster, self.config, kubernetes).await?;
        let destination = Destination {
            namespace: &cluster.namespace,
            contents: &contents,
        };
        let (helm, config, version) = (self.helm, self.config, self.version);
        let fit = chart_check::check(helm, config, version, releases, &destination).await?;
        Ok(fit.notes)
    }

    /// Loads the version's images into the nodes. Returns those that a node did not have. The
    /// images of a version other than the checkout's come from the engine, or the nodes pull them.
    ///
    /// # Errors
    /// An image can be neither pulled nor built, or cannot be loaded.
    pub async fn images(
        &self,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<ForNodes>, ImageError> {
        let mut wanted = Vec::new();
        for (recipe, image) in &self.config.images {
            let known_as = image.of_version(self.version);
            let image = match self.version == self.config.platform.version {
                true => {
                    let workshop = self.workshop;
                    images::ensure(self.engine, workshop, recipe, self.supply, progress)
                        .await?
                        .to_string()
                }
                false if images::is_here(self.engine, &known_as).await? => known_as.clone(),
                false => continue,
            };
            wanted.push(ForNodes { image, known_as });
        }
        let loaded = images::load(self.engine, &self.place.name, &wanted, progress).await?;
        wanted.retain(|it| loaded.brought.contains(&it.known_as));
        Ok(wanted)
    }
}

/// Restarts the pods of the release that run one of these images, as `kubectl rollout restart` does.
/// Returns whether there were any.
async fn restart(
    cluster: &Cluster,
    release: &Release,
    images: &[ForNodes],
) -> Result<bool, ClusterError> {
    let failed = |error| ClusterError::of("restart pods", error);
    let api: Api<Deployment> = cluster.api();
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let mut restarted = false;
    for deployment in Workloads::look(cluster, release.workloads())
        .await?
        .deployments
    {
        let Some(image) = images.iter().find(|it| runs(&deployment, &it.known_as)) else {
            continue;
        };
        let patch = json!({"spec": {"template": {"metadata": {
            "annotations": {IMAGE_ANNOTATION: image.image},
        }}}});
        let name = deployment.name_any();
        let patched = api.patch(&name, &parameters, &Patch::Merge(&patch)).await;
        patched.map_err(failed)?;
        restarted = true;
    }
    Ok(restarted)
}

/// A service with two colours may have another version.
fn runs(deployment: &Deployment, image: &str) -> bool {
    let pods = deployment.spec.template.spec.iter();
    let mut containers = pods.flat_map(|it| &it.containers);
    containers.any(|it| it.image.as_deref() == Some(image))
}
