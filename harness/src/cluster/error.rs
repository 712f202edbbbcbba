//! Why a cluster did not do what it was asked.

use std::path::{Path, PathBuf};

use kube::core::Status;
use miette::Diagnostic;
use thiserror::Error;

use super::access::Denied;
use crate::config::nearest;
use crate::exit::ExitCode;

/// Why a cluster did not do what it was asked.
#[derive(Clone, Debug, Error, Diagnostic)]
pub enum ClusterError {
    /// The kubeconfig is missing or cannot be used.
    #[error("the kubeconfig {} cannot be used: {reason}", path.display())]
    #[diagnostic(help("name the right file, or bring the environment up again"))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kubeconfig does not have the context.
    #[error("there is no context {context:?} in {}", path.display())]
    #[diagnostic(help("{hint}"))]
    Context {
        /// What was asked for.
        context: String,
        /// The file that was looked in.
        path: PathBuf,
        /// The nearest, or those that are known.
        hint: String,
    },
    /// The API server does not answer, or only that it cannot now.
    #[error("the API server does not answer (to {what}): {reason}")]
    #[diagnostic(help(
        "is the cluster up? `cargo xtask status` shows environments of this machine"
    ))]
    Silent {
        /// What it was asked to do.
        what: String,
        /// What was seen.
        reason: String,
    },
    /// The API server does not let us.
    #[error("the API server does not let us {what}: {reason}")]
    #[diagnostic(help("the context's user lacks a right, or its credentials have expired"))]
    Forbidden {
        /// What it was asked to do.
        what: String,
        /// Its word.
        reason: String,
    },
    /// The API server found fault with a request.
    #[error("the API server does not {what}: {reason}")]
    Refused {
        /// What it was asked to do.
        what: String,
        /// Its word.
        reason: String,
    },
    /// The guard rails did not permit it: nothing was sent.
    #[error(transparent)]
    #[diagnostic(help("{}", .0.advice()))]
    Denied(#[from] Denied),
    /// A manifest is not one.
    #[error("document {number} of the manifest cannot be applied: {reason}")]
    Manifest {
        /// Which of its documents, from 1; 0 where it cannot be read at all.
        number: usize,
        /// Why.
        reason: String,
    },
}

impl ClusterError {
    pub(crate) fn no_context<'a>(
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

    /// Sorts an error of the client's by what can be done about it. `what` goes on
    /// from `to`: `apply Secret redis-credentials`.
    pub fn of(what: impl Into<String>, error: kube::Error) -> ClusterError {
        let what = what.into();
        let denied = match &error {
            kube::Error::Service(error) => error.downcast_ref::<Denied>(),
            _ => None,
        };
        if let Some(denied) = denied {
            return denied.clone().into();
        }
        match error {
            kube::Error::Api(status) => ClusterError::of_status(what, &status),
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                let reason = crate::chain(&error);
                ClusterError::Silent { what, reason }
            }
            kube::Error::Auth(_) => {
                let reason = crate::chain(&error);
                ClusterError::Forbidden { what, reason }
            }
            _ => {
                let reason = crate::chain(&error);
                ClusterError::Refused { what, reason }
            }
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

    /// What a command ends with.
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
    fn errors_are_sorted_by_what_can_be_done() {
        let of = |code| ClusterError::of("list pods", status(code, "no"));
        assert!(matches!(of(403), ClusterError::Forbidden { .. }));
        assert!(matches!(of(401), ClusterError::Forbidden { .. }));
        assert!(matches!(of(422), ClusterError::Refused { .. }));
        assert!(of(503).may_pass() && of(500).may_pass() && of(429).may_pass());
        assert!(!of(404).may_pass());
    }

    #[test]
    fn the_servers_own_words_are_kept() {
        let error = ClusterError::of("list pods", status(422, "spec.replicas: Invalid value"));
        assert_eq!(
            error.to_string(),
            "the API server does not list pods: spec.replicas: Invalid value"
        );
    }

    #[test]
    fn a_kubeconfig_without_contexts_says_so() {
        let error = ClusterError::no_context("a", Path::new("k"), []);
        assert!(
            matches!(error, ClusterError::Context { hint, .. } if hint == "it has no context at all")
        );
    }
}
