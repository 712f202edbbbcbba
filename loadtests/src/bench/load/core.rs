//! The core that load is made on, by one generator at a time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::subprocess;

use crate::bench::error::BenchError;

/// Beyond its time: to start, to finish what is in flight, and to sum up.
const GRACE: Duration = Duration::from_secs(30);

/// A core, and how a program is kept on it.
pub struct Core {
    /// What keeps it there.
    pub taskset: PathBuf,
    /// The core.
    pub number: usize,
    /// Where programs run.
    pub folder: PathBuf,
}

impl Core {
    /// Has `program` make load for so many seconds, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, or takes much longer.
    pub async fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        seconds: u64,
    ) -> Result<String, BenchError> {
        let mut argv = vec![
            self.taskset.display().to_string(),
            "--cpu-list".into(),
            self.number.to_string(),
            program.display().to_string(),
        ];
        argv.extend(arguments.iter().map(|word| (*word).to_owned()));
        let deadline = Duration::from_secs(seconds) + GRACE;
        Ok(subprocess::output_in(&self.folder, &argv, deadline).await?)
    }
}
