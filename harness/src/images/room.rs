//! Where an image is built: a folder, and the programs that work there. The ledger has both,
//! so that a build that is killed leaves nothing unknown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ImageError, Workshop};
use crate::ledger::{Ledger, LedgerError, Resource};
use crate::process::identity::ProcessIdentity;
use crate::subprocess::{self, Started, SubprocessError};

/// A folder to build one image in; gone when this is.
pub(super) struct Room {
    ledger: Ledger,
    /// As the ledger calls it.
    build: String,
    path: PathBuf,
    entry: String,
}

impl Room {
    pub async fn new(workshop: &Workshop, image: &str) -> Result<Room, ImageError> {
        let (ledger, build) = (workshop.ledger(), Workshop::build_of(image));
        let unique = format!("image-{image}-{:08x}", rand::random::<u32>());
        let path = workshop.state_dir.join(unique);
        let entry = ledger.record(&build, Resource::Directory { path: path.clone() })?;
        std::fs::create_dir(&path).map_err(ImageError::io("make a directory to build in"))?;
        Ok(Room {
            ledger,
            build,
            path,
            entry,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All is built.
    pub async fn close(self) -> Result<(), ImageError> {
        let (ledger, entry) = (self.ledger.clone(), self.entry.clone());
        drop(self);
        Ok(ledger.release(&entry)?)
    }

    /// Runs `argv` until it ends, at most `deadline`; `failed` says what that means.
    pub async fn run(
        &self,
        argv: &[String],
        deadline: Duration,
        progress: &(dyn Fn(&str) + Sync),
        failed: impl Fn(SubprocessError) -> ImageError,
    ) -> Result<(), ImageError> {
        // Where we are: cargo and rustup look for their settings there.
        let (program, entry) = self.start(Path::new("."), argv, &failed).await?;
        let ended = program.ended(deadline, progress).await;
        self.ledger.release(&entry)?;
        ended.map_err(failed)
    }

    /// Runs `argv` here, and tells what it printed on standard output.
    pub async fn output(
        &self,
        argv: &[String],
        deadline: Duration,
        failed: impl Fn(SubprocessError) -> ImageError,
    ) -> Result<String, ImageError> {
        let (program, entry) = self.start(&self.path, argv, &failed).await?;
        let answered = program.answered(deadline).await;
        self.ledger.release(&entry)?;
        answered.map_err(failed)
    }

    /// The program dies with this process. Its entry has a sweep wait for its end before the
    /// folder goes.
    async fn start(
        &self,
        dir: &Path,
        argv: &[String],
        failed: impl Fn(SubprocessError) -> ImageError,
    ) -> Result<(Started, String), ImageError> {
        let program = subprocess::start_in(dir, argv).map_err(failed)?;
        let entry = self.record(argv, program.id()).await?;
        Ok((program, entry))
    }

    async fn record(&self, argv: &[String], pid: Option<u32>) -> Result<String, LedgerError> {
        let pid = pid.unwrap_or_default();
        let identity = ProcessIdentity::of(pid).unwrap_or(ProcessIdentity { pid, started: 0 });
        // `env` and what it sets say nothing.
        let named = argv
            .iter()
            .skip_while(|word| word.contains('=') || *word == "env");
        let name = named.take(1).cloned().collect();
        self.ledger
            .record(&self.build, Resource::Process { name, identity })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // A program that is about to die may still write: then the next sweep removes it, and
        // in any case its entry, unless it was closed.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
