//! Deploys a version of the platform to a cluster that is up.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use miette::Diagnostic;
use serde_json::json;
use thiserror::Error;

use super::release;
use crate::config::{Config, KindTarget};
use crate::environment::ClusterPlace;
use base::run::event::Failure;
use helm::{DeployError, Deployed, Release};
use kubernetes::apply::FIELD_MANAGER;
use kubernetes::rollout;
use kubernetes::{Cluster, ClusterError};
use machine::engine::Engine;
use machine::images::{self, ForNodes, ImageError, Supply, Workshop};

/// The annotation on a Deployment's pods with the image that they were restarted for.
const IMAGE_ANNOTATION: &str = "trii.rehearsal/image";

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
    /// Returns the failure for the report.
    pub fn failure(self) -> Failure {
        let what = "the version is not deployed".to_owned();
        let seen = self.to_string();
        let (expected, look_at, next) = match self {
            NotDeployed::Release(failure) => return *failure,
            NotDeployed::Image(_) => (
                "the platform's image on every node",
                "fixtures/images/platform",
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
    /// Deploys the version and waits until its rollout is complete, `deadline` at most.
    ///
    /// # Errors
    /// [`NotDeployed`]; the old pods continue to serve.
    pub async fn run(
        &self,
        deadline: Duration,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Deployed, NotDeployed> {
        let cluster = self.place.open().await?;
        let loaded = self.image(progress).await?;
        let release = self.release();
        let failure = |error: DeployError| NotDeployed::Release(Box::new(error.failure(&cluster)));
        let deploying = helm::deploy(&cluster, self.helm, &release, deadline, progress).await;
        let mut deployed = deploying.map_err(failure)?;
        // The tag is the same, so the release does not show the new content.
        if let Some(image) = loaded.filter(|_| !deployed.changed) {
            progress("its image has changed: restarting every pod");
            let selector = release.selector();
            restart(&cluster, &selector, self.version, &image).await?;
            let complete = rollout::complete(&cluster, &selector, deadline, progress).await;
            complete.map_err(|error| failure(error.into()))?;
            deployed.changed = true;
        }
        Ok(deployed)
    }

    /// Returns what a deployment would change, as a difference of manifests.
    ///
    /// # Errors
    /// [`NotDeployed`].
    pub async fn difference(&self) -> Result<String, NotDeployed> {
        let cluster = self.place.open().await?;
        let difference = helm::difference(&cluster, self.helm, &self.release()).await;
        difference.map_err(|error| NotDeployed::Release(Box::new(error.failure(&cluster))))
    }

    fn release(&self) -> Release {
        let (config, target, workspace) = (self.config, self.target, self.workspace);
        let backing_services = self.place.backing_services.as_deref();
        release::of(config, target, workspace, self.version, backing_services)
    }

    /// Loads the version's image into the nodes. Returns it if a node did not have it. The image of
    /// a version other than the checkout's comes from the engine, or the nodes pull it.
    ///
    /// # Errors
    /// The image can be neither pulled nor built, or cannot be loaded.
    pub async fn image(
        &self,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Option<String>, ImageError> {
        let known_as = release::image(self.version);
        let image = match self.version == self.config.platform.version {
            true => {
                let workshop = self.workshop;
                images::ensure(self.engine, workshop, "platform", self.supply, progress)
                    .await?
                    .to_string()
            }
            false if images::is_here(self.engine, &known_as).await? => known_as.clone(),
            false => return Ok(None),
        };
        let for_nodes = ForNodes {
            image: image.clone(),
            known_as,
        };
        let loaded = images::load(self.engine, &self.place.name, &[for_nodes], progress).await?;
        Ok((!loaded.brought.is_empty()).then_some(image))
    }
}

/// Restarts the pods of every Deployment with this version, as `kubectl rollout restart` does.
async fn restart(
    cluster: &Cluster,
    selector: &str,
    version: &str,
    image: &str,
) -> Result<(), ClusterError> {
    let failed = |error| ClusterError::of("restart pods", error);
    let api: Api<Deployment> = cluster.api();
    let selector = ListParams::default().labels(selector);
    let patch = json!({"spec": {"template": {"metadata": {
        "annotations": {IMAGE_ANNOTATION: image},
    }}}});
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    for deployment in api.list(&selector).await.map_err(failed)? {
        if !runs(&deployment, &release::image(version)) {
            continue;
        }
        let name = deployment.metadata.name.unwrap_or_default();
        let patched = api.patch(&name, &parameters, &Patch::Merge(&patch)).await;
        patched.map_err(failed)?;
    }
    Ok(())
}

/// A service with two colours may have another version.
fn runs(deployment: &Deployment, image: &str) -> bool {
    let pods = deployment.spec.template.spec.iter();
    let mut containers = pods.flat_map(|it| &it.containers);
    containers.any(|it| it.image.as_deref() == Some(image))
}
