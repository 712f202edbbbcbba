//! Where services are released, and how a version gets there.

use base::run::event::Failure;
use blue_green::lock::DeployerIdentity;
use blue_green::policy::Evidence;
use blue_green::{Deployer, Operation, Policy, ProbeFrom};
use environments::config::Target;
use environments::environment::{Environment, EnvironmentFolder, EnvironmentName};
use environments::kind::deploy::NotDeployed;
use environments::local::colours::versions::{self, NotBuilt};
use environments::remote::{Remote, Site};
use kubernetes::Action;
use kubernetes::Cluster;
use kubernetes::prober::PART;
use machine::images::Supply;
use tokio_util::sync::CancellationToken;

use crate::invocation::Invocation;
use crate::problem::Problem;
use crate::stages::redeploy::{KindDeployment, cluster_of};

/// The activity shown while the API server answers.
pub const WAITING: &str = "querying the cluster";

pub struct ReleaseTarget<'a> {
    pub invocation: &'a Invocation,
    /// The environment's name.
    pub environment: EnvironmentName,
    /// The target's name.
    pub name: String,
    pub cluster: Cluster,
    source: Source<'a>,
    /// Locks a remote target against other commands of this machine.
    _remote: Option<Remote<'a>>,
}

/// Where a version comes from.
enum Source<'a> {
    /// Its image is brought to the nodes of a kind cluster.
    Image(Box<KindDeployment<'a>>),
    /// It is built from the checkout, for this environment.
    Checkout(EnvironmentFolder),
    /// It is not brought: the nodes have or pull its image.
    Elsewhere,
}

/// A service to release.
pub struct Released {
    pub service: String,
    /// The paths of its smoke test.
    smoke: Vec<String>,
}

impl<'a> ReleaseTarget<'a> {
    /// An environment of this machine that is up.
    pub async fn here(
        invocation: &'a Invocation,
        environment: &'a Environment,
    ) -> Result<Self, Problem> {
        Ok(ReleaseTarget {
            invocation,
            environment: environment.name.clone(),
            name: environment.target.clone(),
            cluster: cluster_of(environment).await?,
            source: match &environment.cluster {
                Some(_) => {
                    let deployment = KindDeployment::find(invocation, environment).await?;
                    Source::Image(Box::new(deployment))
                }
                None => Source::Checkout(invocation.folder(&environment.name)),
            },
            _remote: None,
        })
    }

    /// A remote target, which must allow the change, if there is one.
    pub async fn there(
        invocation: &'a Invocation,
        site: Site<'a>,
        environment: &EnvironmentName,
        change: bool,
    ) -> Result<Self, Problem> {
        let actions: &[Action] = if change { &[Action::Deploy] } else { &[] };
        let opened = site.open("blue-green", actions);
        let remote = invocation.context.output.waiting(WAITING, opened).await?;
        Ok(ReleaseTarget {
            invocation,
            environment: environment.clone(),
            name: site.name.to_owned(),
            cluster: remote.cluster().clone(),
            source: Source::Elsewhere,
            _remote: Some(remote),
        })
    }

    /// Returns the services in the order of their release: each after those that it calls.
    pub fn ordered(&self, services: &[String]) -> Vec<Released> {
        let mut services = services.to_vec();
        services.sort();
        services.dedup();
        let order: Vec<&str> = self.invocation.config.service_names().collect();
        services.sort_by_key(|name| order.iter().position(|it| it == name).unwrap_or(usize::MAX));
        let smoke = &self.policy().smoke;
        let released = |service: String| Released {
            smoke: smoke.get(&service).cloned().unwrap_or_default(),
            service,
        };
        services.into_iter().map(released).collect()
    }

    pub fn policy(&self) -> &Policy {
        &self.invocation.config.blue_green
    }

    pub fn deployer<'d>(
        &'d self,
        released: &'d Released,
        prober_image: Option<&'d str>,
        release: &str,
        cancellation: CancellationToken,
    ) -> Deployer<'d> {
        Deployer {
            cluster: &self.cluster,
            service: &released.service,
            policy: self.policy(),
            smoke: &released.smoke,
            probe_from: match (&self.source, prober_image) {
                (Source::Checkout(_), _) => ProbeFrom::Here,
                (_, Some(image)) => ProbeFrom::Pod { image },
                (_, None) => ProbeFrom::Nowhere,
            },
            helpers_namespace: &self.invocation.config.platform.helpers_namespace,
            holder: DeployerIdentity::this(release),
            release: release.to_owned(),
            cancellation,
        }
    }

    /// Brings the version and the prober that measures it. Returns the prober's image.
    pub async fn bring(
        &self,
        operation: Operation<'_>,
        supply: Supply,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Option<String>, Failure> {
        match operation {
            Operation::Deploy { version, .. } => {
                self.bring_version(version, supply, progress).await?
            }
            Operation::Promote => {}
            Operation::Abort | Operation::Pause | Operation::End => return Ok(None),
        }
        match (&self.source, self.policy().analysis) {
            (Source::Image(deployment), Evidence::Probe) => {
                let brought = deployment.bring_helper(PART, progress).await;
                brought
                    .map(Some)
                    .map_err(|error| NotDeployed::Image(error).failure())
            }
            (Source::Elsewhere, Evidence::Probe) => Ok(match self.invocation.target() {
                Target::Remote(target) => target.prober_image.clone(),
                Target::Local(_) | Target::Kind(_) => None,
            }),
            _ => Ok(None),
        }
    }

    /// Brings the version to where its pods look for it.
    async fn bring_version(
        &self,
        version: &str,
        supply: Supply,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Failure> {
        match &self.source {
            Source::Image(deployment) => {
                let brought = deployment.bring_version(version, supply, progress).await;
                brought.map_err(|error| error.failure())
            }
            Source::Checkout(folder) => {
                progress("building the platform");
                let config = &self.invocation.config;
                // Without a package, no service has colours.
                let package = config.platform.local.cargo_package.as_deref();
                let package = package.unwrap_or_default();
                let workspace = &self.invocation.context.workspace;
                let deadline = config.deadlines.build;
                let built = versions::build(workspace, package, folder, version, deadline).await;
                built.map_err(|error| not_built(version, package, &error))
            }
            Source::Elsewhere => Ok(()),
        }
    }

    /// Returns the option that names the environment on the command line.
    pub fn named(&self) -> String {
        match self.source {
            Source::Elsewhere => format!(" --target {}", self.name),
            _ => format!(" --name {}", self.environment),
        }
    }
}

fn not_built(version: &str, package: &str, error: &NotBuilt) -> Failure {
    Failure {
        what: format!("{version} is not available"),
        expected: "a platform that builds from this checkout".into(),
        seen: error.to_string(),
        look_at: "the output of cargo".into(),
        next: format!("cargo build --release --package={package} --locked"),
    }
}
