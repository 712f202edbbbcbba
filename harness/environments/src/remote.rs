//! The remote target: an existing cluster, reached with a context of the user's kubeconfig. The
//! cluster is never created or deleted. Other changes need the target's permission, and are never
//! made in production.

mod error;
mod kubeconfig;
mod read_only;
mod same_cluster;
mod site_check;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::capability::Capability;
use crate::chart_check::{self, ChartCheckError, ClusterContents, Destination};
use crate::config::{Config, RemoteTarget, SecretTexts};
use crate::environment::{
    ClusterPlace, Credentials, Environment, EnvironmentFolder, EnvironmentLock, EnvironmentName,
    part_in_cluster,
};
use crate::releases::{self, TargetValues};
use base::entry_point::EntryPoint;
use base::exit::ExitCode;
use base::home::Home;
use base::process::identity::ProcessIdentity;
use base::run::event::Failure;
use blue_green::colour::TRACK;
pub use error::RemoteError;
use helm::{DeployError, Deployed, Release};
use kubernetes::Action;
use kubernetes::{Cluster, ClusterError, Permissions};
pub use read_only::ReadOnlyCluster;

/// The deadline of the API server's and the site's answers, which may be far away.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The chart's label with the version of a Deployment.
const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// A remote target and its configuration.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The target's name.
    pub name: &'a str,
    /// The target.
    pub target: &'a RemoteTarget,
    /// The configuration.
    pub config: &'a Config,
    /// The repository.
    pub workspace: &'a Path,
    /// The harness home.
    pub home: &'a Home,
}

/// A remote target that the guard rails permit, and that answers. While this value exists, no other
/// command of this home uses the target.
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
    _lock: EnvironmentLock,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The next start sweeps what cannot be removed now.
        let _ = self.folder.remove();
    }
}

impl<'a> Site<'a> {
    /// Checks that the target permits this action.
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

    /// The kubeconfig of `target`, if it names one.
    fn kubeconfig(&self, target: &RemoteTarget) -> Option<PathBuf> {
        let file = target.kubeconfig.as_ref()?;
        Some(self.workspace.join(file))
    }

    /// The only source of a client's permission to change anything.
    fn permissions(&self, actions: &[Action]) -> Result<Permissions, RemoteError> {
        for action in actions {
            self.permits(*action)?;
        }
        let (namespace, actions) = (&self.target.namespace, actions.iter().copied());
        let helpers = self.config.platform.helpers_namespace.as_str();
        Ok(Permissions::granted(
            self.name,
            namespace,
            Some(helpers),
            actions,
        ))
    }

    /// Pins a copy of the context, which must lead to the target's server. Checks that the server
    /// answers and has the namespace. `run` is the caller's run; `actions` are its actions beyond
    /// reading.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn open(self, run: &str, actions: &[Action]) -> Result<Remote<'a>, RemoteError> {
        let target = self.target;
        let permissions = self.permissions(actions)?;
        let given = self.kubeconfig(target);
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
        let cluster = Cluster::open(&file, &target.context, &target.namespace, permissions).await?;
        let cluster = cluster.copied_from(given);
        let kubernetes = cluster.version(TIMEOUT).await?;
        same_cluster::must_not_be_production(&self, &copy, cluster.client(), TIMEOUT).await?;
        check_namespace(cluster.client(), &target.namespace).await?;
        Ok(Remote {
            site: self,
            cluster,
            kubernetes,
            pinned,
        })
    }
}

impl Remote<'_> {
    /// Compares the charts with the configuration, and then deploys the version, one release after
    /// the other. Waits until the rollout of each is complete, `deadlines.release` at most. After
    /// `cancellation`, it must still be awaited.
    ///
    /// # Errors
    /// The exit code, and the failure for the report; the old pods continue to serve.
    pub async fn deploy(
        &self,
        helm: &Path,
        version: &str,
        cancellation: &CancellationToken,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<Deployed>, (ExitCode, Box<Failure>)> {
        let deadline = self.site.config.deadlines.release;
        let cluster = &self.cluster;
        let releases = self.releases(version);
        let contents = self.contents().await.map_err(|error| {
            let error = RemoteError::from(error);
            (error.exit_code(), Box::new(error.failure(self.site.name)))
        })?;
        let checked = self.check_charts(helm, version, &releases, &contents).await;
        checked.map_err(|error| (error.exit_code(), Box::new(error.failure())))?;
        let mut all = Vec::new();
        for release in releases {
            let deploying =
                helm::deploy_unless(cancellation, cluster, helm, &release, deadline, progress);
            all.push(deploying.await.map_err(|error| {
                (
                    error.exit_code(),
                    Box::new(error.failure(cluster, &release)),
                )
            })?);
        }
        Ok(all)
    }

    async fn contents(&self) -> Result<ClusterContents, ClusterError> {
        let (cluster, config) = (&self.cluster, self.site.config);
        ClusterContents::of_existing(cluster, config, self.kubernetes.clone()).await
    }

    async fn check_charts(
        &self,
        helm: &Path,
        version: &str,
        releases: &[Release],
        contents: &ClusterContents,
    ) -> Result<(), ChartCheckError> {
        let destination = Destination {
            namespace: &self.cluster.namespace,
            contents,
        };
        let config = self.site.config;
        let checked = chart_check::check(helm, config, version, releases, &destination);
        checked.await.map(drop)
    }

    /// Compares the charts with the configuration, as a deployment does, and returns what it would
    /// change, as a difference of manifests.
    ///
    /// # Errors
    /// [`ChartCheckError`].
    pub async fn difference(&self, helm: &Path, version: &str) -> Result<String, ChartCheckError> {
        let releases = self.releases(version);
        let contents = self.contents().await.map_err(DeployError::from)?;
        self.check_charts(helm, version, &releases, &contents)
            .await?;
        let mut differences = Vec::new();
        for release in releases {
            differences.push(helm::difference(&self.cluster, helm, &release).await?);
        }
        Ok(releases::joined(differences))
    }

    /// Returns the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn releases(&self, version: &str) -> Vec<Release> {
        let values = TargetValues::of_remote(self.site.target);
        let places = (self.site.workspace, self.site.home);
        releases::all(self.site.config, &values, places, version)
    }

    /// Returns the environment for scenarios.
    ///
    /// # Errors
    /// There is no release, or there are several versions.
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
        let services: Vec<String> = self
            .site
            .config
            .service_names()
            .map(str::to_owned)
            .collect();
        Ok(Environment {
            name: self.pinned.name.clone(),
            target: self.site.name.to_owned(),
            run: run.to_owned(),
            run_folder,
            since: Timestamp::now(),
            supervisor: ProcessIdentity::own(),
            entry: EntryPoint {
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
                // Checks and load deploy nothing.
                permissions: self
                    .site
                    .permissions(&[Action::Inside])
                    .or_else(|_| self.site.permissions(&[]))?,
            }),
            ready_urls: BTreeMap::new(),
            releases: None,
            site_host: base.site_host.clone(),
            api_host: base.api_host.clone(),
            version,
            capabilities: [Capability::Cluster, Capability::Ingress]
                .into_iter()
                .chain(allowed)
                .collect(),
            parts: services
                .iter()
                .map(|it| part_in_cluster(it, &target.namespace))
                .collect(),
            services,
            lost: Vec::new(),
            stays: true,
        })
    }

    /// Checks that the cluster serves the site, before load is sent to it.
    ///
    /// # Errors
    /// [`RemoteError::NotServed`], and errors of the API server.
    pub async fn must_serve(&self, environment: &Environment) -> Result<(), RemoteError> {
        let hosts = [&environment.site_host, &environment.api_host];
        let hosts = hosts.map(String::as_str);
        let instance = self.site.config.versions.headers.instance.as_ref();
        let entry = (&environment.entry, instance);
        site_check::must_serve(&self.cluster, entry, hosts, TIMEOUT).await
    }

    /// The version of the services' Deployments, except colours, which have their own. Not of those
    /// that helm annotated: another tool may have applied what the chart renders.
    async fn version(&self) -> Result<String, RemoteError> {
        let namespace = &self.cluster.namespace;
        let api: Api<Deployment> = Api::namespaced(self.cluster.client().clone(), namespace);
        let listed = api.list(&ListParams::default()).await;
        let listed = listed.map_err(|error| ClusterError::of("list Deployments", error))?;
        let services: Vec<&str> = self.site.config.service_names().collect();
        let ours = listed.items.into_iter();
        let ours = ours.filter(|it| is_of_services(&it.name_any(), &services));
        let is_colour = |it: &Deployment| it.labels().get(TRACK).is_some_and(|it| it != "stable");
        let (colours, stable): (Vec<_>, Vec<_>) = ours.partition(is_colour);
        match stable.is_empty() {
            true => one_version(&colours, namespace),
            false => one_version(&stable, namespace),
        }
    }

    /// Reads the credentials for scenarios from the cluster.
    ///
    /// # Errors
    /// They cannot be read, or do not exist. No error contains their values.
    pub async fn credentials(&self) -> Result<Credentials, RemoteError> {
        let (client, namespace) = (self.cluster.client(), &self.cluster.namespace);
        credentials(client, namespace, &self.site.config.secrets).await
    }
}

/// Returns whether a Deployment has the name of a service, or of a colour of one.
fn is_of_services(name: &str, services: &[&str]) -> bool {
    services.iter().any(|service| {
        let suffix = name.strip_prefix(service);
        matches!(suffix, Some("" | "-blue" | "-green"))
    })
}

/// Passes without permission to read the namespace.
async fn check_namespace(client: &Client, name: &str) -> Result<(), RemoteError> {
    let api: Api<Namespace> = Api::all(client.clone());
    match api.get_opt(name).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(RemoteError::NoNamespace(name.to_owned())),
        Err(error) => match ClusterError::of(format!("read namespace {name}"), error) {
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

/// Reads the credentials from the Secrets whose keys have them on a kind target.
async fn credentials(
    client: &Client,
    namespace: &str,
    secrets: &SecretTexts,
) -> Result<Credentials, RemoteError> {
    let read = async |placeholder: &str| match key_of(secrets, placeholder) {
        Some((secret, key)) => credential(client, namespace, secret, key).await,
        // The platform has no such secret.
        None => Ok(String::new()),
    };
    Ok(Credentials {
        jwt_secret: read("{jwt_secret}").await?,
        demo_password: read("{demo_password}").await?,
    })
}

/// Returns the Secret and its key with this text.
fn key_of<'a>(secrets: &'a SecretTexts, text: &str) -> Option<(&'a str, &'a str)> {
    let mut keys = secrets.iter().flat_map(|(secret, texts)| {
        texts
            .iter()
            .map(move |(key, text)| (secret.as_str(), key.as_str(), text))
    });
    let (secret, key, _) = keys.find(|(_, _, it)| *it == text)?;
    Some((secret, key))
}

async fn credential(
    client: &Client,
    namespace: &str,
    secret: &str,
    key: &str,
) -> Result<String, RemoteError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let read = api.get_opt(secret).await;
    let read =
        read.map_err(|error| ClusterError::of(format!("read Secret {namespace}/{secret}"), error))?;
    let data = read.and_then(|secret| secret.data).unwrap_or_default();
    let text = data
        .get(key)
        .and_then(|value| String::from_utf8(value.0.clone()).ok());
    text.ok_or_else(|| RemoteError::NoCredentials {
        namespace: namespace.to_owned(),
        secret: secret.to_owned(),
        key: key.to_owned(),
    })
}

#[cfg(test)]
mod tests;
