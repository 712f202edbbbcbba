//! Prevents Goose from writing to standard output, which is for documents. Goose sets a logger for
//! every crate of the process, and prints how many users it launched.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Sets a logger, unless there is one: Goose cannot set its own then.
pub(super) fn reserve_logger() {
    // Without a logger, this is the one that discards everything.
    let _ = log::set_logger(log::logger());
}

/// Until this is dropped, the process prints nothing to standard output.
pub struct Muted(OwnedFd);

impl Muted {
    /// Mutes standard output.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn begin() -> io::Result<Muted> {
        let original = io::stdout().as_fd().try_clone_to_owned()?;
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        nix::unistd::dup2_stdout(null)?;
        Ok(Muted(original))
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        // Restoring the original cannot fail.
        let _ = nix::unistd::dup2_stdout(&self.0);
    }
}
