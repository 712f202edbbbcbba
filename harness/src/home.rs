//! Where the harness keeps what it writes.

use std::path::{Path, PathBuf};

/// The folder that holds all the harness writes: by default the workspace's `target`.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// The harness writes below `root` and nowhere else, temporary directories excepted.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Home(root.into())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// One folder a run.
    pub fn reports(&self) -> PathBuf {
        self.0.join("reports")
    }

    /// What outlives a run: ledger, environments, tools, engine.
    pub fn state(&self) -> PathBuf {
        self.0.join("harness")
    }

    /// One folder an environment that is up, or was when its owner died.
    pub fn environments(&self) -> PathBuf {
        self.state().join("environments")
    }

    /// The resource ledger.
    pub fn ledger(&self) -> PathBuf {
        self.state().join("ledger.jsonl")
    }

    /// Programs of the platform in other versions than this checkout's, each named as its
    /// version.
    pub fn versions(&self) -> PathBuf {
        self.state().join("versions")
    }

    /// Tools that `--provision` installs for this project alone.
    pub fn tools(&self) -> PathBuf {
        self.state().join("tools")
    }
}
