//! The folders that the harness writes to.

use std::path::{Path, PathBuf};

/// The folder of all files that the harness writes: by default the workspace's `target`.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// The home at `root`. Except for temporary directories, the harness writes nowhere else.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Home(root.into())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The reports: one folder for each run.
    pub fn reports(&self) -> PathBuf {
        self.0.join("reports")
    }

    /// State that outlives a run: ledger, environments, tools, engine.
    pub fn state(&self) -> PathBuf {
        self.0.join("harness")
    }

    /// One folder for each environment that is up, or was up when its owner died.
    pub fn environments(&self) -> PathBuf {
        self.state().join("environments")
    }

    /// The resource ledger.
    pub fn ledger(&self) -> PathBuf {
        self.state().join("ledger.jsonl")
    }

    /// Programs of the platform in other versions than this checkout's, named by version.
    pub fn versions(&self) -> PathBuf {
        self.state().join("versions")
    }

    /// Charts that were pulled from registries, by reference and version.
    pub fn charts(&self) -> PathBuf {
        self.state().join("charts")
    }

    /// Tools that `--provision` installs for this project alone.
    pub fn tools(&self) -> PathBuf {
        self.state().join("tools")
    }
}
