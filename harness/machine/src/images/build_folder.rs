//! The folder of a build and the programs that run in it. Both are in the ledger, so a sweep finds
//! what a killed build leaves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ImageError, Workshop};
use base::ledger::{Ledger, LedgerError, Resource};
use base::process::identity::ProcessIdentity;
use base::process::{self, CommandError, Subprocess};

/// A folder to build one image in. Dropping this removes it.
pub(super) struct BuildFolder {
    ledger: Ledger,
    /// Its name in the ledger.
    build: String,
    path: PathBuf,
    entry: String,
}

impl BuildFolder {
    pub async fn new(workshop: &Workshop, image: &str) -> Result<BuildFolder, ImageError> {
        let (ledger, build) = (workshop.ledger(), Workshop::build_of(image));
        let unique = format!("image-{image}-{:08x}", rand::random::<u32>());
        let path = workshop.state_dir.join(unique);
        let entry = ledger
            .record(&build, Resource::Directory { path: path.clone() })
            .await?;
        std::fs::create_dir(&path).map_err(ImageError::io("make a directory to build in"))?;
        Ok(BuildFolder {
            ledger,
            build,
            path,
            entry,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder and its entry in the ledger.
    pub async fn close(self) -> Result<(), ImageError> {
        let (ledger, entry) = (self.ledger.clone(), self.entry.clone());
        drop(self);
        Ok(ledger.release(&entry).await?)
    }

    /// Runs `argv` until it exits, at most for `deadline`; `failed` wraps its error.
    pub async fn run(
        &self,
        argv: &[String],
        deadline: Duration,
        progress: &(dyn Fn(&str) + Sync),
        failed: impl Fn(CommandError) -> ImageError,
    ) -> Result<(), ImageError> {
        // In the working directory of this process: cargo and rustup read their settings there.
        let (program, entry) = self.start(Path::new("."), argv, &failed).await?;
        let exited = program.ended(deadline, progress).await;
        self.ledger.release(&entry).await?;
        exited.map_err(failed)
    }

    /// Runs `argv` in this folder and returns its standard output.
    pub async fn output(
        &self,
        argv: &[String],
        deadline: Duration,
        failed: impl Fn(CommandError) -> ImageError,
    ) -> Result<String, ImageError> {
        let (program, entry) = self.start(&self.path, argv, &failed).await?;
        let output = program.output(deadline).await;
        self.ledger.release(&entry).await?;
        output.map_err(failed)
    }

    /// The program is killed with this process. Because of its entry, a sweep waits for its exit
    /// before it removes the folder.
    async fn start(
        &self,
        dir: &Path,
        argv: &[String],
        failed: impl Fn(CommandError) -> ImageError,
    ) -> Result<(Subprocess, String), ImageError> {
        let program = process::start_in(dir, argv).map_err(failed)?;
        let entry = self.record(argv, program.id()).await?;
        Ok((program, entry))
    }

    async fn record(&self, argv: &[String], pid: Option<u32>) -> Result<String, LedgerError> {
        let pid = pid.unwrap_or_default();
        let identity = ProcessIdentity::of(pid);
        let identity = identity.unwrap_or_else(|| ProcessIdentity::not_started(pid));
        // Without `env` and its variables.
        let mut words = argv.iter();
        let name = words.find(|word| !word.contains('=') && *word != "env");
        let name = name.into_iter().cloned().collect();
        self.ledger
            .record(&self.build, Resource::Process { name, identity })
            .await
    }
}

impl Drop for BuildFolder {
    fn drop(&mut self) {
        // A program that is being killed may still write. Then the next sweep removes the folder.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
