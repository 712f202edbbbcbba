//! Why the lock is not to be had, or not ours any more.

use std::time::Duration;

use jiff::Timestamp;
use miette::Diagnostic;
use thiserror::Error;

use super::Held;
use crate::cluster::ClusterError;

/// Why the lock is not to be had, or not ours any more.
#[derive(Clone, Debug, Error, Diagnostic)]
pub enum LockError {
    /// Another holds it and is alive.
    #[error("{service} is being released by {}", told(.holder, .since, .renewed))]
    #[diagnostic(help(
        "wait until that has ended; `cargo xtask blue-green status --service {service}` shows how far it is"
    ))]
    Held {
        /// The service.
        service: String,
        /// Who.
        holder: String,
        /// Since when, by the holder's clock.
        since: Option<Timestamp>,
        /// When it last said so, by the holder's clock.
        renewed: Option<Timestamp>,
    },
    /// It was ours, and another has it now.
    #[error("the lock of {service} was lost: {by} has it now")]
    #[diagnostic(help(
        "nothing more is changed from here; `cargo xtask blue-green status --service {service}` shows who releases"
    ))]
    Taken {
        /// The service.
        service: String,
        /// Who has it.
        by: String,
    },
    /// It was ours, and is not there any more.
    #[error("the lock of {service} was lost: its Lease {service}-blue-green was deleted")]
    #[diagnostic(help(
        "see that nobody else releases {service}, then run the same command again: it goes on from where this one was"
    ))]
    Deleted {
        /// The service.
        service: String,
    },
    /// It was ours, and the API server is away for too long.
    #[error("the lock of {service} was lost: not renewed for {span:?}: {reason}")]
    #[diagnostic(help(
        "once the API server answers, run the same command again: it goes on from where this one was"
    ))]
    NotRenewed {
        /// The service.
        service: String,
        /// For how long.
        span: Duration,
        /// What was seen.
        reason: String,
    },
    /// The API server does not do what it is asked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
}

impl LockError {
    pub(super) fn held(service: &str, held: Held) -> LockError {
        LockError::Held {
            service: service.to_owned(),
            holder: held.holder,
            since: held.since,
            renewed: held.renewed,
        }
    }
}

/// `ana@laptop, pid 1, run r since T, last heard of at T`.
pub(super) fn told(holder: &str, since: &Option<Timestamp>, renewed: &Option<Timestamp>) -> String {
    let at = |words: &str, at: &Option<Timestamp>| match at {
        Some(at) => format!("{words} {}", at.strftime("%Y-%m-%dT%H:%M:%SZ")),
        None => String::new(),
    };
    let (since, renewed) = (at(" since", since), at(", renewed at", renewed));
    format!("{holder}{since}{renewed}")
}
