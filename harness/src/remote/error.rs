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
    #[diagnostic(help("`cargo xtask deploy --target TARGET` deploys one, where that is allowed"))]
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
            | RemoteError::OtherServer { .. } => ExitCode::Refused,
            RemoteError::Cluster(
                ClusterError::Context { .. } | ClusterError::Kubeconfig { .. },
            )
            | RemoteError::Name(_) => ExitCode::Usage,
            _ => ExitCode::NoEnvironment,
        }
    }

    /// What a person needs to go on.
    pub fn failure(&self) -> Failure {
        let expected = match self.exit_code() {
            ExitCode::Refused => "something that the target allows",
            ExitCode::Usage => "a context that is in the kubeconfig",
            _ => "a cluster that answers, with the platform's namespace in it",
        };
        let next = match self {
            RemoteError::Cluster(ClusterError::Silent { .. }) => "kubectl version",
            _ => "kubectl config get-contexts",
        };
        let help = self.help().map(|help| help.to_string());
        Failure {
            what: "the target is not used".into(),
            expected: expected.into(),
            seen: self.to_string(),
            look_at: match help {
                Some(help) => format!("docs/remote.md: {help}"),
                None => "docs/remote.md".into(),
            },
            next: next.into(),
        }
    }
}
