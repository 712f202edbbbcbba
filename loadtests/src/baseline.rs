//! Stored results to compare with: plain files that can be committed.
//!
//! `baselines/<name>.json` contains `{"schema": 1, "runs": [..]}`, one run a line, the oldest
//! first. A run is stored without its warm-up and in a few longer blocks. That is enough to compare
//! later runs and to measure the noise, and a file of 40 runs stays small.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use base::file_lock;
use serde::Deserialize;

mod error;

pub use error::BaselineError;

use crate::regression::{self, Comparison, FEWEST_BLOCKS, History, Settings};
use crate::result::{LoadResult, SCHEMA as RESULT_SCHEMA, Schema};

/// The schema of the file. A file with another schema is refused.
pub const SCHEMA: u32 = 1;

/// The number of runs that are kept by default: enough for change points.
pub const KEEP: NonZeroUsize = NonZeroUsize::new(40).expect("not zero");

/// The most runs in a comparison. Older ones do not improve it.
const MOST_COMPARED: usize = 10;

/// How long another process may take to add its run.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);

/// Stored runs of one target, profile, plan and machine, the oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// The runs without their warm-up, in longer blocks than the original ones.
    pub runs: Vec<LoadResult>,
}

/// Returns the path of the baseline `name`, in the folder `baselines` of `workspace`.
pub fn path(workspace: &Path, name: &str) -> PathBuf {
    workspace.join("baselines").join(format!("{name}.json"))
}

/// Returns the path of a user's baseline, which is a file or a name for [`path`].
pub fn find(workspace: &Path, baseline: &str) -> PathBuf {
    match baseline.contains('/') || baseline.ends_with(".json") {
        true => PathBuf::from(baseline),
        false => path(workspace, baseline),
    }
}

impl Baseline {
    /// A baseline of these runs, without the first `warm_up_blocks` of each.
    pub fn of(runs: &[LoadResult], warm_up_blocks: u32) -> Self {
        let stored = runs.iter().map(|run| compact(run, warm_up_blocks));
        let runs = stored.collect();
        Baseline { runs }
    }

    /// Reads a baseline.
    ///
    /// # Errors
    /// If the file does not exist, cannot be read, or is not a complete baseline of this schema.
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let text = fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BaselineError::Missing { path: path.into() },
            io::ErrorKind::InvalidData => BaselineError::not_one(path, source),
            _ => BaselineError::file("read", path, source),
        })?;
        parse(path, &text)
    }

    /// Compares `run` with the [latest](Baseline::latest) stored runs.
    pub fn compare(&self, run: &LoadResult, settings: &Settings) -> Comparison {
        regression::compare_with_stored(self.latest(), run, settings)
    }

    /// Finds the changes over all stored runs, of all versions.
    pub fn history(&self, settings: &Settings) -> History {
        regression::history(&self.runs, settings)
    }

    /// Returns the last runs with the same versions as the last one, at most ten.
    pub fn latest(&self) -> &[LoadResult] {
        let versions = self.runs.last().map(|run| &run.fingerprint.versions);
        let from_last = self.runs.iter().rev().take(MOST_COMPARED);
        let alike = from_last.take_while(|run| Some(&run.fingerprint.versions) == versions);
        &self.runs[self.runs.len() - alike.count()..]
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let runs = self.runs.iter().map(serde_json::to_string);
        let runs = runs.collect::<Result<Vec<String>, _>>()?.join(",\n");
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".baseline-")
            // The default is 0600, which others cannot read.
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)?;
        writeln!(file, "{{\"schema\":{SCHEMA},\"runs\":[\n{runs}\n]}}")?;
        // Before the rename: a crash must not leave an empty file under the name.
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}

/// Adds `run` to the baseline at `path`, without its first `warm_up_blocks`, and drops the oldest
/// runs beyond `keep`. Creates the file and its folder if needed, and replaces the file atomically.
/// Waits for another process that adds a run at the same time.
///
/// # Errors
/// If `run` cannot be compared with others, if its target, profile, plan, machine or engine
/// differs from the stored runs', or if the file cannot be read or written.
pub async fn append(
    path: &Path,
    run: &LoadResult,
    warm_up_blocks: u32,
    keep: NonZeroUsize,
) -> Result<Baseline, BaselineError> {
    let unfit = |why| BaselineError::Unfit {
        run: run.run.clone(),
        path: path.into(),
        why,
    };
    if let Some(why) = regression::unfit(run, warm_up_blocks) {
        return Err(unfit(why));
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|source| BaselineError::file("create", folder, source))?;
    let lock = path.with_extension("lock");
    let _lock = file_lock::lock(&lock, LOCK_DEADLINE, &|_| ())
        .await
        .map_err(|error| BaselineError::file("lock", &lock, error.into()))?;
    let mut baseline = match Baseline::read(path) {
        Err(BaselineError::Missing { .. }) => Baseline { runs: Vec::new() },
        read => read?,
    };
    let last = baseline.runs.last();
    if let Some(why) = last.and_then(|last| regression::difference(last, run)) {
        return Err(unfit(why));
    }
    baseline.runs.push(compact(run, warm_up_blocks));
    let beyond = baseline.runs.len().saturating_sub(keep.get());
    baseline.runs.drain(..beyond);
    let written = baseline.write(path);
    written.map_err(|source| BaselineError::file("write", path, source))?;
    Ok(baseline)
}

/// Returns the run without its warm-up, with its blocks merged to ten longer ones, or a few more.
/// Blocks at the end that do not fill a longer one are left out. Statuses, failures and service
/// times are those of the complete run.
fn compact(run: &LoadResult, warm_up_blocks: u32) -> LoadResult {
    let blocks = run.blocks().saturating_sub(warm_up_blocks);
    let merged = (blocks / FEWEST_BLOCKS).max(1);
    let until = warm_up_blocks + blocks / merged * merged;
    let mut stored = run.clone();
    stored.block_millis *= u64::from(merged);
    for endpoint in stored.endpoints.values_mut() {
        let original = std::mem::take(&mut endpoint.blocks);
        for (number, block) in original.range(warm_up_blocks..until) {
            let longer = (number - warm_up_blocks) / merged;
            endpoint.blocks.entry(longer).or_default().add(block);
        }
    }
    stored
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Runs<R> {
    #[serde(rename = "schema")]
    _schema: u32,
    runs: Vec<R>,
}

fn parse(path: &Path, text: &str) -> Result<Baseline, BaselineError> {
    let error = |error: serde_json::Error| match error.is_eof() {
        true => BaselineError::CutOff { path: path.into() },
        false => BaselineError::not_one(path, error),
    };
    let check = |found: u32, known: u32| match found == known {
        true => Ok(()),
        false => Err(BaselineError::OtherSchema {
            path: path.into(),
            found,
            known,
        }),
    };
    let Schema { schema } = serde_json::from_str(text).map_err(error)?;
    check(schema, SCHEMA)?;
    let schemas: Runs<Schema> = serde_json::from_str(text).map_err(error)?;
    for Schema { schema } in schemas.runs {
        check(schema, RESULT_SCHEMA)?;
    }
    let Runs { runs, .. } = serde_json::from_str(text).map_err(error)?;
    Ok(Baseline { runs })
}

#[cfg(test)]
mod tests;
