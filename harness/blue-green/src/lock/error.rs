//! The errors of a lock.

use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use super::holder::LeaseHolder;
use kubernetes::ClusterError;

/// A lock cannot be taken, or was lost.
#[derive(Clone, Debug, Error, Diagnostic)]
pub enum LeaseError {
    /// Another deployer holds the lock, and is alive.
    #[error("{service} is being released by {by}")]
    #[diagnostic(help(
        "wait until it has ended; `cargo xtask blue-green status --service {service}` shows its progress"
    ))]
    Held {
        /// The service.
        service: String,
        /// The holder.
        by: LeaseHolder,
    },
    /// Another deployer has taken the lock.
    #[error("the lock of {service} was lost: {by} has it now")]
    #[diagnostic(help(
        "this deployer changes nothing more; `cargo xtask blue-green status --service {service}` shows who releases"
    ))]
    Taken {
        /// The service.
        service: String,
        /// The new holder.
        by: LeaseHolder,
    },
    /// The Lease was deleted.
    #[error("the lock of {service} was lost: its Lease {service}-blue-green was deleted")]
    #[diagnostic(help(
        "make sure that nobody else releases {service}, then run the same command again: it continues from here"
    ))]
    Deleted {
        /// The service.
        service: String,
    },
    /// The API server was away for too long.
    #[error("the lock of {service} was lost: not renewed for {span:?}: {reason}")]
    #[diagnostic(help(
        "when the API server answers again, run the same command again: it continues from here"
    ))]
    NotRenewed {
        /// The service.
        service: String,
        /// For how long.
        span: Duration,
        /// The last cause.
        reason: String,
    },
    /// The API server refused a request, or did not answer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
}
