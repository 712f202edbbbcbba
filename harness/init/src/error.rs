//! Why no configuration is written.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use base::exit::ExitCode;
use helm::DeployError;
use kubernetes::ClusterError;

/// Why no configuration is written.
#[derive(Debug, Error, Diagnostic)]
pub enum InitError {
    /// The chart is not rendered.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Render(#[from] DeployError),
    /// The manifests of the chart are not YAML.
    #[error("the manifests of the chart cannot be read: {0}")]
    Manifest(String),
    /// An object of the chart is malformed.
    #[error("the {kind} {name:?} of the chart cannot be read: {reason}")]
    #[diagnostic(help("Kubernetes would refuse it, too: correct the template that renders it"))]
    Object {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// The cause.
        reason: String,
    },
    /// The namespace cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// Nothing that could be a service was found.
    #[error("{place} has no Service that selects pods: {seen}")]
    #[diagnostic(help("{help}"))]
    Nothing {
        /// The chart, or the namespace.
        place: String,
        /// What there is instead.
        seen: String,
        /// The remedy.
        help: &'static str,
    },
    /// A file exists. It may have a person's corrections.
    #[error("{} exists", path.display())]
    #[diagnostic(help("name another file with --output, or remove this one"))]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    #[diagnostic(help("name another file with --output"))]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl InitError {
    /// The exit code of a command that fails with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            InitError::Render(error) => error.exit_code(),
            InitError::Cluster(ClusterError::Context { .. } | ClusterError::Kubeconfig { .. }) => {
                ExitCode::Usage
            }
            InitError::Cluster(error) => error.exit_code(),
            InitError::Unwritable { .. } => ExitCode::NoEnvironment,
            InitError::Manifest(_)
            | InitError::Object { .. }
            | InitError::Nothing { .. }
            | InitError::Exists { .. } => ExitCode::Usage,
        }
    }
}
