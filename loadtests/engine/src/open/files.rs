//! Whether the system gives as many open files as there may be connections.

use miette::Diagnostic;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;

/// What is open beside connections: logs, timers, the caller's own.
const BESIDE: u64 = 128;

/// The system gives too few open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{connections} connections need {needed} open files, and the limit is {limit}")]
#[diagnostic(
    code(loadtests::files),
    help(
        "raise it with `ulimit -n {needed}` (its hard limit is in /etc/security/limits.conf), \
         or have fewer users, or requests, in flight at once"
    )
)]
pub struct TooFewFiles {
    /// So many may be open at once.
    pub connections: usize,
    /// So many files that takes.
    pub needed: u64,
    /// The hard limit (RLIMIT_NOFILE, getrlimit(2)).
    pub limit: u64,
}

/// Raises this process's limit as far as `connections` take.
///
/// # Errors
/// Where the hard limit is too low for them.
pub fn allow(connections: usize) -> Result<(), TooFewFiles> {
    // Where the system does not tell, connections that fail do.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(());
    };
    match wanted(connections, soft, hard)? {
        None => Ok(()),
        Some(raised) => {
            let set = setrlimit(Resource::RLIMIT_NOFILE, raised, hard);
            set.map_err(|_| too_few(connections, soft))
        }
    }
}

/// The soft limit to set, where the present one is too low.
fn wanted(connections: usize, soft: u64, hard: u64) -> Result<Option<u64>, TooFewFiles> {
    let needed = needed(connections);
    match (needed <= soft, needed <= hard) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(needed)),
        (false, false) => Err(too_few(connections, hard)),
    }
}

fn needed(connections: usize) -> u64 {
    (connections as u64).saturating_add(BESIDE)
}

fn too_few(connections: usize, limit: u64) -> TooFewFiles {
    TooFewFiles {
        connections,
        needed: needed(connections),
        limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soft_limit_is_raised_and_a_hard_one_is_told_of() {
        assert_eq!(wanted(800, 1024, 4096), Ok(None));
        assert_eq!(wanted(2000, 1024, 4096), Ok(Some(2128)));
        let error = wanted(5000, 1024, 4096).unwrap_err();
        assert_eq!(
            error.to_string(),
            "5000 connections need 5128 open files, and the limit is 4096"
        );
        let help = error.help().unwrap().to_string();
        assert!(help.contains("ulimit -n 5128"), "{help}");
    }

    #[test]
    fn the_system_is_asked() {
        assert_eq!(allow(1), Ok(()));
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        if let Ok(beyond) = usize::try_from(hard)
            && beyond < usize::MAX
        {
            assert!(allow(beyond).is_err());
        }
    }
}
