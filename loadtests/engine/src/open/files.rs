//! The limit of open files, which must be higher than the number of connections.

use miette::Diagnostic;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;

/// Open files other than connections: logs, timers, the caller's.
const BESIDE: u64 = 128;

/// The operating system allows too few open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{connections} connections need {needed} open files, and the limit is {limit}")]
#[diagnostic(
    code(loadtests::files),
    help(
        "raise it with `ulimit -n {needed}` (its hard limit is in /etc/security/limits.conf), \
         or have fewer users, or requests, in flight"
    )
)]
pub struct TooFewFiles {
    /// The most open connections.
    pub connections: usize,
    /// The open files that they need.
    pub needed: u64,
    /// The hard limit (RLIMIT_NOFILE, getrlimit(2)).
    pub limit: u64,
}

/// Raises this process's limit to what `connections` need.
///
/// # Errors
/// If the hard limit is too low.
pub fn allow(connections: usize) -> Result<(), TooFewFiles> {
    // If the limit is unknown, failed connections will show it.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(());
    };
    let Some(raised) = needed_limit(connections, soft, hard)? else {
        return Ok(());
    };
    let set = setrlimit(Resource::RLIMIT_NOFILE, raised, hard);
    set.map_err(|_| too_few(connections, soft))
}

/// Returns the soft limit to set, if the current one is too low.
fn needed_limit(connections: usize, soft: u64, hard: u64) -> Result<Option<u64>, TooFewFiles> {
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
    fn a_soft_limit_is_raised_and_a_hard_one_is_an_error() {
        assert_eq!(needed_limit(800, 1024, 4096), Ok(None));
        assert_eq!(needed_limit(2000, 1024, 4096), Ok(Some(2128)));
        let error = needed_limit(5000, 1024, 4096).unwrap_err();
        assert_eq!(
            error.to_string(),
            "5000 connections need 5128 open files, and the limit is 4096"
        );
        let help = error.help().unwrap().to_string();
        assert!(help.contains("ulimit -n 5128"), "{help}");
    }

    #[test]
    fn the_limit_of_this_machine_is_read() {
        assert_eq!(allow(1), Ok(()));
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        if let Ok(beyond) = usize::try_from(hard)
            && beyond < usize::MAX
        {
            assert!(allow(beyond).is_err());
        }
    }
}
