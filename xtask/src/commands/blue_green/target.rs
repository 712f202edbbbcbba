//! Where services are released, and what brings a version there.

use harness::blue_green::lock::Holder;
use harness::blue_green::policy::Evidence;
use harness::blue_green::{Ask, Deployer, Policy, ProbeFrom};
use harness::cluster::Cluster;
use harness::config::Target;
use harness::config::remote::Action;
use harness::environment::{Environment, EnvironmentFolder};
use harness::kind::deploy::NotDeployed;
use harness::local::colours::versions::{self, NotBuilt};
use harness::remote::Remote;
use harness::run::event::Failure;
use harness::service::Service;
use tokio_util::sync::CancellationToken;

use super::ASKING;
use crate::cli::{Named, Supply};
use crate::commands::deploy::{Site, cluster_of};
use crate::commands::prober_image;
use crate::commands::workplace::Workplace;
use crate::console::Console;
use crate::problem::Problem;

/// Where services are released.
pub struct ReleaseTarget<'a> {
    pub workplace: &'a Workplace,
    pub name: String,
    pub cluster: Cluster,
    source: Source<'a>,
    /// Keeps others of this machine from a remote target.
    _remote: Option<Remote<'a>>,
}

/// Where a version comes from.
enum Source<'a> {
    /// Its image is brought to nodes that are ours.
    Image(Box<Site<'a>>),
    /// It is what the checkout holds, in this environment.
    Checkout(EnvironmentFolder),
    /// It is there, or is not.
    Elsewhere,
}

/// One service, and what is asked of it.
pub struct Released {
    pub service: String,
    /// What the configuration has it answer.
    smoke: Vec<String>,
}

impl<'a> ReleaseTarget<'a> {
    /// An environment of this machine's that is up.
    pub async fn here(
        workplace: &'a Workplace,
        environment: &'a Environment,
    ) -> Result<Self, Problem> {
        Ok(ReleaseTarget {
            workplace,
            name: environment.target.clone(),
            cluster: cluster_of(environment).await?,
            source: match &environment.cluster {
                Some(_) => Source::Image(Box::new(Site::find(workplace, environment).await?)),
                None => Source::Checkout(EnvironmentFolder::of(&workplace.home, &environment.name)),
            },
            _remote: None,
        })
    }

    /// A remote target, which has to allow what is to be changed.
    pub async fn there(
        workplace: &'a Workplace,
        site: harness::remote::Site<'a>,
        change: bool,
    ) -> Result<Self, Problem> {
        let actions: &[Action] = if change { &[Action::Deploy] } else { &[] };
        let remote = Console::waiting(ASKING, site.open("blue-green", actions)).await;
        let remote = remote.map_err(|error| Problem::new(error.exit_code(), error))?;
        Ok(ReleaseTarget {
            workplace,
            name: site.name.to_owned(),
            cluster: remote.cluster().clone(),
            source: Source::Elsewhere,
            _remote: Some(remote),
        })
    }

    /// The services in the order in which they are released: each after those that it calls.
    pub fn ordered(&self, services: &[String]) -> Vec<Released> {
        let known = |name: &String| name.parse::<Service>().ok();
        let mut services = services.to_vec();
        services.sort();
        services.dedup();
        services.sort_by_key(|it| known(it).map_or(usize::MAX, |it| it as usize));
        let smoke = &self.policy().smoke;
        let released = |service: String| Released {
            smoke: known(&service)
                .and_then(|it| smoke.get(&it).cloned())
                .unwrap_or_default(),
            service,
        };
        services.into_iter().map(released).collect()
    }

    pub fn policy(&self) -> &Policy {
        &self.workplace.config.blue_green
    }

    pub fn deployer<'d>(
        &'d self,
        released: &'d Released,
        prober_image: Option<&'d str>,
        release: &str,
        called_off: CancellationToken,
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
            holder: Holder::this(release),
            release: release.to_owned(),
            called_off,
        }
    }

    /// Has what is asked for be where it is looked for: the version, and the prober that is to
    /// show whether it holds. Tells the latter's image.
    pub async fn bring(
        &self,
        ask: Ask<'_>,
        supply: Supply,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Option<String>, Failure> {
        match ask {
            Ask::Deploy { version, .. } => self.bring_version(version, supply, progress).await?,
            Ask::Promote => {}
            Ask::Abort | Ask::Pause | Ask::End => return Ok(None),
        }
        match (&self.source, self.policy().analysis) {
            (Source::Image(site), Evidence::Probe) => {
                let brought = prober_image::brought(site, progress).await;
                brought
                    .map(Some)
                    .map_err(|error| NotDeployed::Image(error).failure())
            }
            (Source::Elsewhere, Evidence::Probe) => Ok(match self.workplace.target() {
                Target::Remote(target) => target.prober_image.clone(),
                Target::Local(_) | Target::Kind(_) => None,
            }),
            _ => Ok(None),
        }
    }

    /// Has the version be where its pods look for it.
    async fn bring_version(
        &self,
        version: &str,
        supply: Supply,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Failure> {
        match &self.source {
            Source::Image(site) => {
                let brought = site.bring_image(version, supply, progress).await;
                brought.map_err(|error| error.failure())
            }
            Source::Checkout(folder) => {
                progress("building the platform");
                let (workspace, deadline) = (
                    &self.workplace.workspace,
                    self.workplace.config.deadlines.build,
                );
                let built = versions::build(workspace, folder, version, deadline).await;
                built.map_err(|error| not_built(version, &error))
            }
            Source::Elsewhere => Ok(()),
        }
    }

    /// How the environment is named on the command line.
    pub fn named(&self, named: &Named) -> String {
        match self.source {
            Source::Elsewhere => format!(" --target {}", self.name),
            _ => format!(" --name {}", named.name),
        }
    }
}

fn not_built(version: &str, error: &NotBuilt) -> Failure {
    Failure {
        what: format!("{version} cannot be had"),
        expected: "a platform that builds from this checkout".into(),
        seen: error.to_string(),
        look_at: "what cargo says".into(),
        next: "cargo build --release --package=platform --locked".into(),
    }
}
