//! Standard output is for documents: Goose would have every crate of the process log to it,
//! and says on it how many users it launched, whatever it is told.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use log::{Log, Metadata, Record};

struct Silent;

impl Log for Silent {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &Record<'_>) {}

    fn flush(&self) {}
}

/// Has Goose find a logger, unless there is one.
pub(super) fn keep() {
    let _ = log::set_logger(&Silent);
}

/// Until this is dropped, nothing that the process prints arrives.
pub struct Muted(OwnedFd);

impl Muted {
    /// From now on.
    ///
    /// # Errors
    /// When the system has no more files.
    pub fn begin() -> io::Result<Muted> {
        let kept = io::stdout().as_fd().try_clone_to_owned()?;
        let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
        nix::unistd::dup2_stdout(nowhere)?;
        Ok(Muted(kept))
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        // What was there can be put back.
        let _ = nix::unistd::dup2_stdout(&self.0);
    }
}
