//! The remote target: a cluster that is there, reached by one context of the user's
//! kubeconfig. Nothing of it is stood up or taken down; what more than reads is done
//! where the target allows it by name, and never in production.

mod error;
mod kubeconfig;
mod same_cluster;
mod served;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::blue_green::colour::TRACK;
use crate::capability::Capability;
use crate::cluster::{Access, Cluster, ClusterError};
use crate::config::remote::Action;
use crate::config::{Config, RemoteTarget};
use crate::entry::Entry;
use crate::environment::{
    ClusterPlace, Credentials, Environment, EnvironmentFolder, EnvironmentName, Lock,
};
use crate::home::Home;
use crate::process::identity::ProcessIdentity;
use crate::release::{self, DeployError, Deployed, Release};
use crate::service::Service;
pub use error::RemoteError;

/// How long the API server may take to say its version, and the site to answer: they may be
/// far away.
const PATIENCE: Duration = Duration::from_secs(10);

/// On a Deployment: which version it runs, by the chart.
const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// Which target is meant, and by whom.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The target's name.
    pub name: &'a str,
    /// The target.
    pub target: &'a RemoteTarget,
    /// The configuration it is from.
    pub config: &'a Config,
    /// The repository.
    pub workspace: &'a Path,
    /// Where the harness writes.
    pub home: &'a Home,
}

/// A remote target that the guard rails let us reach, and that answers. While this lives,
/// no other command of this home uses the target.
pub struct Remote<'a> {
    site: Site<'a>,
    cluster: Cluster,
    /// The API server's version.
    pub kubernetes: String,
    pinned: Pinned,
}

/// The pinned copy of the kubeconfig, removed when dropped.
struct Pinned {
    folder: EnvironmentFolder,
    name: EnvironmentName,
    _lock: Lock,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The next start sweeps what cannot be removed now.
        let _ = self.folder.remove();
    }
}

impl<'a> Site<'a> {
    /// Whether the target lets this be done to it.
    ///
    /// # Errors
    /// [`RemoteError::Production`] and [`RemoteError::NotAllowed`].
    pub fn permits(&self, action: Action) -> Result<(), RemoteError> {
        let target = self.name.to_owned();
        if self.target.production {
            return Err(RemoteError::Production { target, action });
        }
        match self.target.allow.contains(&action) {
            true => Ok(()),
            false => Err(RemoteError::NotAllowed { target, action }),
        }
    }

    /// What a client may change where these are permitted: the only way to one that may
    /// change anything.
    ///
    /// # Errors
    /// As [`Site::permits`].
    fn access(&self, actions: &[Action]) -> Result<Access, RemoteError> {
        for action in actions {
            self.permits(*action)?;
        }
        let actions = actions.iter().copied();
        Ok(Access::granted(self.name, &self.target.namespace, actions))
    }

    /// Pins a copy of the context that leads to the server which the target names, and
    /// looks whether that answers and has the namespace. `run` is who asks; `actions` are what
    /// is going to be done there, beyond reading.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn open(self, run: &str, actions: &[Action]) -> Result<Remote<'a>, RemoteError> {
        let target = self.target;
        let access = self.access(actions)?;
        let given = target.kubeconfig.as_ref();
        let given = given.map(|file| self.workspace.join(file));
        let copy = kubeconfig::Read::from(given.as_deref())?.minified(&target.context)?;
        copy.must_lead_to(&target.server)?;
        let name: EnvironmentName = self.name.parse()?;
        let folder = EnvironmentFolder::of(self.home, &name);
        let lock = folder.take(&name, run, self.config.deadlines.stop).await?;
        let pinned = Pinned {
            folder,
            name,
            _lock: lock,
        };
        let file = copy.pin(pinned.folder.path())?;
        let cluster = Cluster::open(&file, &target.context, &target.namespace, access).await?;
        let cluster = cluster.copied_from(given);
        let kubernetes = cluster.version(PATIENCE).await?;
        same_cluster::must_not_be_production(&self, &copy, cluster.client(), PATIENCE).await?;
        namespace_is_there(cluster.client(), &target.namespace).await?;
        Ok(Remote {
            site: self,
            cluster,
            kubernetes,
            pinned,
        })
    }
}

impl Remote<'_> {
    /// Deploys the version and waits until its rollout is complete, `deadlines.release` at
    /// most. To end it early cancel `called_off`, and go on waiting.
    ///
    /// # Errors
    /// [`DeployError`]; the pods of before go on serving.
    pub async fn deploy(
        &self,
        helm: &Path,
        version: &str,
        called_off: &CancellationToken,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Deployed, DeployError> {
        let release = self.release(version);
        let deadline = self.site.config.deadlines.release;
        release::deploy_unless(
            called_off,
            &self.cluster,
            helm,
            &release,
            deadline,
            progress,
        )
        .await
    }

    /// What deploying the version would change, as a difference of manifests.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn difference(&self, helm: &Path, version: &str) -> Result<String, DeployError> {
        release::difference(&self.cluster, helm, &self.release(version)).await
    }

    /// The cluster, for messages about it.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The values files say everything but the version: its images are the registry's.
    fn release(&self, version: &str) -> Release {
        let overrides = json!({"global": {"imageTag": version}});
        Release::of_platform(self.site.workspace, &self.site.target.values, overrides)
    }

    /// The platform as it is there, for scenarios to act on.
    ///
    /// # Errors
    /// When no release is there, or several versions are.
    pub async fn environment(
        &self,
        run: &str,
        run_folder: PathBuf,
    ) -> Result<Environment, RemoteError> {
        let target = self.site.target;
        let base = &target.base;
        let workspace = self.site.workspace;
        let authority = base.authority.as_ref();
        let allowed = target.allow.iter().copied().map(Capability::Allowed);
        let version = self.version().await?;
        Ok(Environment {
            name: self.pinned.name.clone(),
            target: self.site.name.to_owned(),
            run: run.to_owned(),
            run_folder,
            since: Timestamp::now(),
            supervisor: ProcessIdentity::own(),
            entry: Entry {
                tls: base.tls,
                port: base.port,
                address: base.address,
                authority: authority.map(|file| workspace.join(file)),
            },
            cluster: Some(ClusterPlace {
                name: target.context.clone(),
                kubeconfig: self.cluster.kubeconfig.clone(),
                context: target.context.clone(),
                namespace: target.namespace.clone(),
                backing_services: None,
                // Who looks, or makes load, deploys nothing.
                access: self
                    .site
                    .access(&[Action::Inside])
                    .or_else(|_| self.site.access(&[]))?,
            }),
            releases: None,
            site_host: base.site_host.clone(),
            api_host: base.api_host.clone(),
            version,
            capabilities: [Capability::Cluster, Capability::Ingress]
                .into_iter()
                .chain(allowed)
                .collect(),
            parts: Service::ALL
                .map(|it| it.in_cluster(&target.namespace))
                .into(),
            lost: Vec::new(),
            stays: true,
        })
    }

    /// Refuses a site that the cluster is not shown to serve: before load is put on it.
    ///
    /// # Errors
    /// [`RemoteError::NotServed`]; what the API server said.
    pub async fn must_serve(&self, environment: &Environment) -> Result<(), RemoteError> {
        let hosts = [&environment.site_host, &environment.api_host];
        let hosts = hosts.map(String::as_str);
        served::must_serve(&self.cluster, &environment.entry, hosts, PATIENCE).await
    }

    /// The version that every Deployment of the release says it is, but for colours, which
    /// have their own.
    async fn version(&self) -> Result<String, RemoteError> {
        let namespace = &self.cluster.namespace;
        let api: Api<Deployment> = Api::namespaced(self.cluster.client().clone(), namespace);
        let of_release = release::selector_of(release::PLATFORM);
        let listed = api.list(&ListParams::default().labels(&of_release)).await;
        let listed = listed.map_err(|error| ClusterError::of("list Deployments", error))?;
        let is_colour = |it: &Deployment| it.labels().get(TRACK).is_some_and(|it| it != "stable");
        let (colours, stable): (Vec<_>, Vec<_>) = listed.items.into_iter().partition(is_colour);
        match stable.is_empty() {
            true => one_version(&colours, namespace),
            false => one_version(&stable, namespace),
        }
    }

    /// What scenarios log in with: of the cluster, by the rights of the context's user.
    ///
    /// # Errors
    /// When it may not be read, or is not there. Its values are in no error.
    pub async fn credentials(&self) -> Result<Credentials, RemoteError> {
        credentials(self.cluster.client(), &self.cluster.namespace).await
    }
}

/// That we may not look is no answer; then the rest will tell.
async fn namespace_is_there(client: &Client, name: &str) -> Result<(), RemoteError> {
    let api: Api<Namespace> = Api::all(client.clone());
    match api.get_opt(name).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(RemoteError::NoNamespace(name.to_owned())),
        Err(error) => match ClusterError::of(format!("look at namespace {name}"), error) {
            ClusterError::Forbidden { .. } => Ok(()),
            error => Err(error.into()),
        },
    }
}

fn one_version(deployments: &[Deployment], namespace: &str) -> Result<String, RemoteError> {
    let namespace = namespace.to_owned();
    let labels = deployments.iter().map(|deployment| {
        let label = deployment.labels().get(VERSION_LABEL);
        label.map_or("none", String::as_str)
    });
    let mut versions: Vec<&str> = labels.collect();
    versions.sort_unstable();
    versions.dedup();
    match versions[..] {
        [] => Err(RemoteError::NotInstalled { namespace }),
        [version] => Ok(version.to_owned()),
        _ => Err(RemoteError::SeveralVersions {
            namespace,
            versions: versions.join(", "),
        }),
    }
}

async fn credentials(client: &Client, namespace: &str) -> Result<Credentials, RemoteError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = api.get_opt(Credentials::SECRET).await;
    let secret = secret.map_err(|error| {
        let what = format!("read Secret {namespace}/{}", Credentials::SECRET);
        ClusterError::of(what, error)
    })?;
    let data = secret.and_then(|secret| secret.data).unwrap_or_default();
    let value = |key: &'static str| {
        let bytes = data.get(key).map(|value| value.0.clone());
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| RemoteError::NoCredentials {
            secret: format!("{namespace}/{}", Credentials::SECRET),
            key,
        })
    };
    Ok(Credentials {
        jwt_secret: value(Credentials::JWT_SECRET)?,
        demo_password: value(Credentials::DEMO_PASSWORD)?,
    })
}

#[cfg(test)]
mod tests;
