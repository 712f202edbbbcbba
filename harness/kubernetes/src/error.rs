//! Why a request to a cluster failed.

use std::path::{Path, PathBuf};

use kube::core::Status;
use miette::Diagnostic;
use thiserror::Error;

use super::permissions::Denied;
use base::exit::ExitCode;
use base::text::nearest;

/// Why a request to a cluster failed.
#[derive(Clone, Debug, Error, Diagnostic)]
pub enum ClusterError {
    /// The kubeconfig is missing or cannot be used.
    #[error("the kubeconfig {} cannot be used: {reason}", path.display())]
    #[diagnostic(help("name the right file, or bring the environment up again"))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The kubeconfig does not have the context.
    #[error("there is no context {context:?} in {}", path.display())]
    #[diagnostic(help("{hint}"))]
    Context {
        /// The given name.
        context: String,
        /// The kubeconfig.
        path: PathBuf,
        /// The nearest name, or the known ones.
        hint: String,
    },
    /// The API server does not answer, or is temporarily unavailable.
    #[error("the API server does not answer (to {what}): {reason}")]
    #[diagnostic(help(
        "is the cluster up? `cargo xtask status` shows environments of this machine"
    ))]
    Silent {
        /// The request.
        what: String,
        /// The cause.
        reason: String,
    },
    /// The API server does not permit the request.
    #[error("the API server does not permit us to {what}: {reason}")]
    #[diagnostic(help("the context's user lacks a right, or its credentials have expired"))]
    Forbidden {
        /// The request.
        what: String,
        /// The API server's message.
        reason: String,
    },
    /// The API server refused the request.
    #[error("the API server does not {what}: {reason}")]
    Refused {
        /// The request.
        what: String,
        /// The API server's message.
        reason: String,
    },
    /// The guard rails did not permit the request. It was not sent.
    #[error(transparent)]
    #[diagnostic(help("{}", .0.advice()))]
    Denied(#[from] Denied),
    /// A manifest cannot be parsed.
    #[error("document {number} of the manifest cannot be applied: {reason}")]
    Manifest {
        /// The number of the document, from 1; 0 if the manifest is not YAML.
        number: usize,
        /// The cause.
        reason: String,
    },
}

impl ClusterError {
    /// Returns the error for a context that is not among the `known` ones of the kubeconfig.
    pub fn no_context<'a>(
        context: &str,
        path: &Path,
        known: impl IntoIterator<Item = &'a str>,
    ) -> ClusterError {
        ClusterError::Context {
            context: context.to_owned(),
            path: path.to_path_buf(),
            hint: nearest(context, known).unwrap_or_else(|| "it has no context at all".to_owned()),
        }
    }

    /// Classifies an error of the client by its remedy. `what` completes "to ...":
    /// `apply Secret redis-credentials`.
    pub fn of(what: impl Into<String>, error: kube::Error) -> ClusterError {
        let what = what.into();
        if let kube::Error::Service(cause) = &error
            && let Some(denied) = cause.downcast_ref::<Denied>()
        {
            return denied.clone().into();
        }
        let reason = base::chain(&error);
        match error {
            kube::Error::Api(status) => ClusterError::of_status(what, &status),
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                ClusterError::Silent { what, reason }
            }
            kube::Error::Auth(_) => ClusterError::Forbidden { what, reason },
            _ => ClusterError::Refused { what, reason },
        }
    }

    fn of_status(what: String, status: &Status) -> ClusterError {
        let reason = match status.message.is_empty() {
            true => format!("{} {}", status.code, status.reason),
            false => status.message.clone(),
        };
        match status.code {
            401 | 403 => ClusterError::Forbidden { what, reason },
            429 | 500 | 502..=504 => ClusterError::Silent { what, reason },
            _ => ClusterError::Refused { what, reason },
        }
    }

    /// The exit code of a command that fails with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ClusterError::Denied(_) => ExitCode::Refused,
            _ => ExitCode::NoEnvironment,
        }
    }

    /// Whether the same request may succeed before long.
    pub fn may_pass(&self) -> bool {
        matches!(self, ClusterError::Silent { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "Reason").with_code(code).boxed())
    }

    #[test]
    fn errors_are_classified_by_their_remedy() {
        let of = |code| ClusterError::of("list pods", status(code, "no"));
        assert!(matches!(of(403), ClusterError::Forbidden { .. }));
        assert!(matches!(of(401), ClusterError::Forbidden { .. }));
        assert!(matches!(of(422), ClusterError::Refused { .. }));
        assert!(of(503).may_pass() && of(500).may_pass() && of(429).may_pass());
        assert!(!of(404).may_pass());
    }

    #[test]
    fn the_servers_message_is_kept() {
        let error = ClusterError::of("list pods", status(422, "spec.replicas: Invalid value"));
        assert_eq!(
            error.to_string(),
            "the API server does not list pods: spec.replicas: Invalid value"
        );
    }

    #[test]
    fn a_kubeconfig_without_contexts_is_reported() {
        let error = ClusterError::no_context("a", Path::new("k"), []);
        assert!(
            matches!(error, ClusterError::Context { hint, .. } if hint == "it has no context at all")
        );
    }
}
