//! Why a remote target is not used.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::cluster::ClusterError;
use crate::config::remote::Action;
use crate::environment::{BadName, EnvironmentError};
use crate::exit::ExitCode;
use crate::run::event::Failure;

/// Why a remote target is not used.
#[derive(Debug, Error, Diagnostic)]
pub enum RemoteError {
    /// Real users are on it.
    #[error("{action:?} is refused: {target} is production, where nothing is done but reading", action = .action.name())]
    #[diagnostic(help(
        "rehearse it on another target; `cargo xtask smoke --target {target}` reads only"
    ))]
    Production {
        /// The target.
        target: String,
        /// What was asked for.
        action: Action,
    },
    /// The target does not name it.
    #[error("{action:?} is refused: the target {target} does not allow it", action = .action.name())]
    #[diagnostic(help(
        "add {:?} to allow under [targets.{target}] in harness.toml, if that may be done to this cluster", .action.name()
    ))]
    NotAllowed {
        /// The target.
        target: String,
        /// What was asked for.
        action: Action,
    },
    /// It is not the harness's to stand up or take down.
    #[error("`{verb}` is refused: the target {target} is a cluster that is there, and stays")]
    #[diagnostic(help(
        "`cargo xtask deploy --target {target}` deploys to it, `cargo xtask smoke --target {target}` proves it"
    ))]
    NotOurs {
        /// The target.
        target: String,
        /// What was asked for.
        verb: &'static str,
    },
    /// The context leads elsewhere than the target says.
    #[error("the context {context:?} leads to {found}, and the target to {server}")]
    #[diagnostic(help(
        "is it the right cluster? If it has moved, say so in harness.toml: server = {found:?}"
    ))]
    OtherServer {
        /// The context.
        context: String,
        /// Where it leads.
        found: String,
        /// Where it must lead.
        server: String,
    },
    /// Its cluster is a production target's, or may be.
    #[error(
        "{target} is refused: its cluster is that of the production target {production}, or may be: {seen}"
    )]
    #[diagnostic(help(
        "one cluster is production or is not, whatever its targets are called: give [targets.{target}] production = true, or the context and server of another cluster"
    ))]
    IsProduction {
        /// The target.
        target: String,
        /// The other one.
        production: String,
        /// What both say of themselves.
        seen: String,
    },
    /// The site is not shown to be the cluster's: it may be another's.
    #[error(
        "load is refused: {url} is not shown to be served by the namespace {namespace:?} of the target's cluster: {seen}"
    )]
    #[diagnostic(help(
        "is it the site of this cluster? Its hosts: `kubectl get ingresses,services --namespace {namespace}`; site_url and api_url in harness.toml must be of them"
    ))]
    NotServed {
        /// Where load would go.
        url: String,
        /// Where the release is.
        namespace: String,
        /// What is there instead, or who answers.
        seen: String,
    },
    /// The copy of the kubeconfig cannot be kept.
    #[error("cannot write {}: {source}", path.display())]
    #[diagnostic(help("make the folder writable, or choose another with --home"))]
    Pin {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The namespace is not there.
    #[error("the cluster has no namespace {0:?}")]
    #[diagnostic(help(
        "name the right one in harness.toml; a new one is made by whoever runs the cluster: fixtures/k8s-manifests/namespaces"
    ))]
    NoNamespace(String),
    /// Nothing is deployed.
    #[error("no release of the platform is in namespace {namespace:?}")]
    #[diagnostic(help("`cargo xtask deploy` deploys one, where that is allowed"))]
    NotInstalled {
        /// The namespace.
        namespace: String,
    },
    /// A rollout is under way, or was left half done.
    #[error("several versions are in namespace {namespace:?}: {versions}")]
    #[diagnostic(help("is somebody deploying? Else `cargo xtask deploy` makes them one"))]
    SeveralVersions {
        /// The namespace.
        namespace: String,
        /// Those that were seen.
        versions: String,
    },
    /// The Secret does not hold what scenarios log in with.
    #[error("the Secret {secret} has no key {key:?}")]
    #[diagnostic(help("docs/remote.md says what scenarios log in with, and where it is kept"))]
    NoCredentials {
        /// Namespace and name.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// The kubeconfig lacks the context, or the API server does not answer or let us.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// Its files cannot be used, or somebody else uses it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Environment(#[from] EnvironmentError),
    /// A target's name that no files can be named by.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Name(#[from] BadName),
}

impl RemoteError {
    /// The refusal of `verb` for a target that is there.
    pub fn not_ours(target: &str, verb: &'static str) -> RemoteError {
        let target = target.to_owned();
        RemoteError::NotOurs { target, verb }
    }

    /// What a command ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            RemoteError::Production { .. }
            | RemoteError::NotAllowed { .. }
            | RemoteError::NotOurs { .. }
            | RemoteError::OtherServer { .. }
            | RemoteError::IsProduction { .. }
            | RemoteError::NotServed { .. } => ExitCode::Refused,
            RemoteError::Cluster(ClusterError::Denied(_)) => ExitCode::Refused,
            RemoteError::Cluster(
                ClusterError::Context { .. } | ClusterError::Kubeconfig { .. },
            )
            | RemoteError::Name(_) => ExitCode::Usage,
            _ => ExitCode::NoEnvironment,
        }
    }

    /// What a person needs to go on.
    pub fn failure(&self, target: &str) -> Failure {
        let section = format!("[targets.{target}] in harness.toml");
        let contexts = "kubectl config get-contexts";
        let (expected, look_at, next) = match self {
            RemoteError::Production { .. } => (
                "a target that is not production",
                section,
                format!("cargo xtask smoke --target {target}"),
            ),
            RemoteError::NotAllowed { action, .. } => {
                let next = match action {
                    Action::Deploy => format!("cargo xtask deploy --target {target} --dry-run"),
                    _ => format!("cargo xtask smoke --target {target}"),
                };
                ("its name in allow", section, next)
            }
            RemoteError::NotOurs { .. } => (
                "a target that is stood up",
                section,
                format!("cargo xtask smoke --target {target}"),
            ),
            RemoteError::OtherServer { .. } => (
                "a context that leads where the target does",
                section,
                contexts.to_owned(),
            ),
            RemoteError::IsProduction { .. } => (
                "a cluster that is not production",
                section,
                contexts.to_owned(),
            ),
            RemoteError::NotServed { namespace, .. } => (
                "a site that the target's cluster has a route for, and its pods answer",
                section,
                format!("kubectl get ingresses,services --namespace {namespace}"),
            ),
            RemoteError::Cluster(
                ClusterError::Context { .. } | ClusterError::Kubeconfig { .. },
            ) => (
                "a context that is in the kubeconfig",
                section,
                contexts.to_owned(),
            ),
            RemoteError::Cluster(_) => (
                "an API server that answers and lets us",
                section,
                "kubectl version".to_owned(),
            ),
            RemoteError::NoNamespace(_)
            | RemoteError::NotInstalled { .. }
            | RemoteError::SeveralVersions { .. }
            | RemoteError::NoCredentials { .. } => (
                "the platform, and what scenarios log in with, in its namespace",
                "docs/remote.md".to_owned(),
                "kubectl get deployments,secrets --namespace trii-platform".to_owned(),
            ),
            RemoteError::Pin { .. } | RemoteError::Environment(_) | RemoteError::Name(_) => (
                "files of its own, that nobody else uses now",
                "the folder that --home names".to_owned(),
                "cargo xtask status".to_owned(),
            ),
        };
        let advice = self.help().map(|help| format!("; {help}"));
        Failure {
            what: format!("the target {target} is not used"),
            expected: expected.into(),
            seen: format!("{self}{}", advice.unwrap_or_default()),
            look_at,
            next,
        }
    }
}
