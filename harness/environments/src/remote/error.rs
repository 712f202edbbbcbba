//! Errors of remote targets.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::environment::{BadName, EnvironmentError};
use base::exit::ExitCode;
use base::run::event::Failure;
use kubernetes::Action;
use kubernetes::ClusterError;

/// Why a remote target is not used.
#[derive(Debug, Error, Diagnostic)]
pub enum RemoteError {
    /// The target is production.
    #[error("{action:?} is refused: {target} is production, which may only be read", action = .action.name())]
    #[diagnostic(help(
        "rehearse it on another target; `cargo xtask smoke --target {target}` reads only"
    ))]
    Production {
        /// The target.
        target: String,
        /// The refused action.
        action: Action,
    },
    /// The target does not allow the action.
    #[error("{action:?} is refused: the target {target} does not allow it", action = .action.name())]
    #[diagnostic(help(
        "add {:?} to allow under [targets.{target}] in harness.toml, if that may be done to this cluster", .action.name()
    ))]
    NotAllowed {
        /// The target.
        target: String,
        /// The refused action.
        action: Action,
    },
    /// The harness does not bring up or tear down an existing cluster.
    #[error("`{verb}` is refused: the target {target} is an existing cluster, which stays")]
    #[diagnostic(help(
        "`cargo xtask deploy --target {target}` deploys to it, `cargo xtask smoke --target {target}` checks it"
    ))]
    NotOurs {
        /// The target.
        target: String,
        /// The refused command.
        verb: &'static str,
    },
    /// The context leads to another server than the target's.
    #[error("the context {context:?} leads to {found}, and the target to {server}")]
    #[diagnostic(help("if it is the right cluster, set server = {found:?} in harness.toml"))]
    OtherServer {
        /// The context.
        context: String,
        /// The context's server.
        found: String,
        /// The target's server.
        server: String,
    },
    /// The cluster is, or may be, also a production target's.
    #[error(
        "{target} is refused: its cluster is that of the production target {production}, or may be: {seen}"
    )]
    #[diagnostic(help(
        "one cluster is production or is not, whatever its targets are called: give [targets.{target}] production = true, or the context and server of another cluster"
    ))]
    IsProduction {
        /// The target.
        target: String,
        /// The production target.
        production: String,
        /// The evidence.
        seen: String,
    },
    /// The site may belong to another cluster.
    #[error(
        "load is refused: {url} is not shown to be served by the namespace {namespace:?} of the target's cluster: {seen}"
    )]
    #[diagnostic(help(
        "is it the site of this cluster? Its hosts: `kubectl get ingresses,services --namespace {namespace}`; site_url and api_url in harness.toml must be of them"
    ))]
    NotServed {
        /// The URL of the site.
        url: String,
        /// The namespace of the release.
        namespace: String,
        /// What was observed.
        seen: String,
    },
    /// The copy of the kubeconfig cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    #[diagnostic(help("make the folder writable, or choose another with --home"))]
    Pin {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The namespace does not exist.
    #[error("the cluster has no namespace {0:?}")]
    #[diagnostic(help(
        "name the right one in harness.toml; who runs the cluster creates a new one: fixtures/k8s-manifests/namespaces"
    ))]
    NoNamespace(String),
    /// Nothing is deployed.
    #[error("no release of the platform is in namespace {namespace:?}")]
    #[diagnostic(help("`cargo xtask deploy` deploys one, where that is allowed"))]
    NotInstalled {
        /// The namespace.
        namespace: String,
    },
    /// A rollout is running, or was interrupted.
    #[error("several versions are in namespace {namespace:?}: {versions}")]
    #[diagnostic(help("if no rollout is running, `cargo xtask deploy` deploys one version"))]
    SeveralVersions {
        /// The namespace.
        namespace: String,
        /// The versions.
        versions: String,
    },
    /// The Secret lacks a credential for scenarios.
    #[error("the Secret {namespace}/{secret} has no key {key:?}")]
    #[diagnostic(help("docs/remote.md describes the credentials of scenarios"))]
    NoCredentials {
        /// Its namespace.
        namespace: String,
        /// Its name.
        secret: String,
        /// The key.
        key: String,
    },
    /// The kubeconfig lacks the context, or the API server does not answer or refuses a request.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// The environment's files cannot be used, or another command uses it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Environment(#[from] EnvironmentError),
    /// The target's name cannot name an environment.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Name(#[from] BadName),
}

impl RemoteError {
    /// Returns the refusal of the command `verb`.
    pub fn not_ours(target: &str, verb: &'static str) -> RemoteError {
        let target = target.to_owned();
        RemoteError::NotOurs { target, verb }
    }

    /// Returns the exit code of a command that fails with this error.
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

    /// Returns the failure for the report.
    pub fn failure(&self, target: &str) -> Failure {
        let section = format!("[targets.{target}] in harness.toml");
        let contexts = "kubectl config get-contexts".to_owned();
        let smoke = format!("cargo xtask smoke --target {target}");
        let (expected, look_at, next) = match self {
            RemoteError::Production { .. } => ("a target that is not production", section, smoke),
            RemoteError::NotAllowed { action, .. } => {
                let next = match action {
                    Action::Deploy => format!("cargo xtask deploy --target {target} --dry-run"),
                    _ => smoke,
                };
                ("its name in allow", section, next)
            }
            RemoteError::NotOurs { .. } => ("a target that can be brought up", section, smoke),
            RemoteError::OtherServer { .. } => {
                let expected = "a context that leads where the target does";
                (expected, section, contexts)
            }
            RemoteError::IsProduction { .. } => {
                ("a cluster that is not production", section, contexts)
            }
            RemoteError::NotServed { namespace, .. } => (
                "a site that the target's cluster has a route for, and its pods answer",
                section,
                format!("kubectl get ingresses,services --namespace {namespace}"),
            ),
            RemoteError::Cluster(
                ClusterError::Context { .. } | ClusterError::Kubeconfig { .. },
            ) => ("a context that is in the kubeconfig", section, contexts),
            RemoteError::Cluster(_) => (
                "an API server that answers and permits this",
                section,
                "kubectl version".to_owned(),
            ),
            RemoteError::NoNamespace(_) => (
                "the namespace of the release",
                section,
                "kubectl get namespaces".to_owned(),
            ),
            RemoteError::NotInstalled { namespace }
            | RemoteError::SeveralVersions { namespace, .. } => (
                "one version of the platform in its namespace",
                "docs/remote.md".to_owned(),
                format!("kubectl get deployments --namespace {namespace}"),
            ),
            RemoteError::NoCredentials {
                namespace, secret, ..
            } => (
                "the credentials of scenarios in the namespace of the platform",
                "docs/remote.md".to_owned(),
                format!("kubectl describe secret {secret} --namespace {namespace}"),
            ),
            RemoteError::Pin { .. } | RemoteError::Environment(_) | RemoteError::Name(_) => (
                "files that no other command uses",
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
