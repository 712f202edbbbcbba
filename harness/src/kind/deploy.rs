//! Another version of the platform, or the same one anew, on a cluster that is up.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use miette::Diagnostic;
use serde_json::json;
use thiserror::Error;

use super::release;
use crate::cluster::apply::FIELD_MANAGER;
use crate::cluster::rollout;
use crate::cluster::{Cluster, ClusterError};
use crate::config::{Config, KindTarget};
use crate::engine::Engine;
use crate::environment::ClusterPlace;
use crate::images::{self, ForNodes, ImageError, Supply, Workshop};
use crate::release::{DeployError, Deployed, Release};
use crate::run::event::Failure;

/// On a Deployment's pods: the image that they were started anew for.
const IMAGE_ANNOTATION: &str = "trii.rehearsal/image";

/// What is deployed, and with what.
pub struct Deploy<'a> {
    /// The cluster's engine.
    pub engine: &'a Engine,
    /// The program.
    pub helm: &'a Path,
    /// How images are had.
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

/// The version is not deployed.
#[derive(Debug, Error, Diagnostic)]
pub enum NotDeployed {
    /// Its image is not to be had, or not on the nodes.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Image(#[from] ImageError),
    /// The cluster does not do what it is asked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// The release does not run.
    #[error("{}", .0.seen)]
    Release(Box<Failure>),
}

impl NotDeployed {
    /// What a person needs to go on.
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
                "an API server that answers and lets us",
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
    /// [`NotDeployed`]; the pods of before go on serving.
    pub async fn run(
        &self,
        deadline: Duration,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Deployed, NotDeployed> {
        let cluster = self.cluster().await?;
        let brought = self.image(progress).await?;
        let release = self.release();
        let failure = |error: DeployError| NotDeployed::Release(Box::new(error.failure(&cluster)));
        let deploying =
            crate::release::deploy(&cluster, self.helm, &release, deadline, progress).await;
        let mut deployed = deploying.map_err(failure)?;
        // The same tag, of other content: nothing in the release says so.
        if let Some(image) = brought.filter(|_| !deployed.changed) {
            progress("its image is another one: starting every pod anew");
            restart(&cluster, &release.selector(), self.version, &image).await?;
            let complete =
                rollout::complete(&cluster, &release.selector(), deadline, progress).await;
            complete.map_err(|error| failure(error.into()))?;
            deployed.changed = true;
        }
        Ok(deployed)
    }

    /// What deploying would change, as a difference of manifests.
    ///
    /// # Errors
    /// [`NotDeployed`].
    pub async fn difference(&self) -> Result<String, NotDeployed> {
        let cluster = self.cluster().await?;
        let difference = crate::release::difference(&cluster, self.helm, &self.release()).await;
        difference.map_err(|error| NotDeployed::Release(Box::new(error.failure(&cluster))))
    }

    async fn cluster(&self) -> Result<Cluster, ClusterError> {
        let place = self.place;
        place.open().await
    }

    fn release(&self) -> Release {
        let backing_services = self.place.backing_services.as_deref();
        release::of(
            self.config,
            self.target,
            self.workspace,
            self.version,
            backing_services,
        )
    }

    /// Brings the version's image to the nodes; tells it where it was not there. A version
    /// that is not the checkout's must be in the engine, or be had by the nodes themselves.
    ///
    /// # Errors
    /// That it can be neither pulled nor built, or not be loaded.
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
        let wanted = ForNodes {
            image: image.clone(),
            known_as,
        };
        let loaded = images::load(self.engine, &self.place.name, &[wanted], progress).await?;
        Ok((!loaded.brought.is_empty()).then_some(image))
    }
}

/// Has every Deployment of the image's version replace its pods, as `kubectl rollout
/// restart` does.
async fn restart(
    cluster: &Cluster,
    selector: &str,
    version: &str,
    image: &str,
) -> Result<(), ClusterError> {
    let said = |error| ClusterError::of("start pods anew", error);
    let api: Api<Deployment> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
    let selector = ListParams::default().labels(selector);
    let patch = json!({"spec": {"template": {"metadata": {
        "annotations": {IMAGE_ANNOTATION: image},
    }}}});
    let as_us = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    for deployment in api.list(&selector).await.map_err(said)? {
        if !runs(&deployment, &release::image(version)) {
            continue;
        }
        let name = deployment.metadata.name.unwrap_or_default();
        let patched = api.patch(&name, &as_us, &Patch::Merge(&patch)).await;
        patched.map_err(said)?;
    }
    Ok(())
}

/// A service that is released blue-green may have another version.
fn runs(deployment: &Deployment, image: &str) -> bool {
    let pods = deployment.spec.template.spec.iter();
    let mut containers = pods.flat_map(|it| &it.containers);
    containers.any(|it| it.image.as_deref() == Some(image))
}
