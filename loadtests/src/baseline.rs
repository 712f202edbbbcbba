//! Stored results to compare with: plain files that can be committed.
//!
//! `baselines/<name>.json` holds `{"schema": 1, "runs": [..]}`, a run a line, the oldest first.
//! A run is stored without its warm-up and in few, longer blocks: what a later run is held
//! against, and where its noise came from, is kept, and a file of 40 runs stays small.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use harness::file_lock;
use serde::Deserialize;

mod error;
mod stored;

pub use error::BaselineError;

use crate::regression::{self, Comparison, History, Settings};
use crate::result::{LoadResult, SCHEMA as RESULT_SCHEMA, Schema};

/// The file's number. Another one is refused, never guessed at.
pub const SCHEMA: u32 = 1;

/// How many runs are kept where nothing else is said: enough for change points.
pub const KEEP: NonZeroUsize = NonZeroUsize::new(40).expect("not zero");

/// More runs than these make a comparison no better, and are from longer ago.
const MOST_COMPARED: usize = 10;

/// How long another process may take to add its run.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);

/// Stored runs of one target, profile, plan and machine, the oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Without their warm-up, in blocks that are longer than when they were made.
    pub runs: Vec<LoadResult>,
}

/// Where the baseline `name` is, in the folder `baselines` of the repository `workspace`.
pub fn path(workspace: &Path, name: &str) -> PathBuf {
    workspace.join("baselines").join(format!("{name}.json"))
}

/// Where the baseline is that a user means by `said`: a file, or a name as [`path`] has it.
pub fn find(workspace: &Path, said: &str) -> PathBuf {
    match said.contains('/') || said.ends_with(".json") {
        true => PathBuf::from(said),
        false => path(workspace, said),
    }
}

impl Baseline {
    /// Of runs that are not stored, the first `warm_up_blocks` of each left out.
    pub fn of(runs: &[LoadResult], warm_up_blocks: u32) -> Self {
        let stored = runs.iter().map(|run| stored::stored(run, warm_up_blocks));
        Baseline {
            runs: stored.collect(),
        }
    }

    /// Reads a baseline.
    ///
    /// # Errors
    /// When there is none, when it is cut off or of another schema, when it is none at all, and
    /// when it cannot be read; each names the file.
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let text = fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BaselineError::Missing { path: path.into() },
            io::ErrorKind::InvalidData => BaselineError::not_one(path, source),
            _ => BaselineError::file("read", path, source),
        })?;
        parse(path, &text)
    }

    /// Holds `run` against the latest stored runs of one version: of the last one's.
    pub fn compare(&self, run: &LoadResult, settings: &Settings) -> Comparison {
        regression::compare_with_stored(self.latest(), run, settings)
    }

    /// What changed over all stored runs, whichever versions they are of.
    pub fn history(&self, settings: &Settings) -> History {
        regression::history(&self.runs, settings)
    }

    /// The last runs that are of the same versions as the last one, ten at most.
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
            // A temporary file's own, 0600, would keep others from reading it.
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)?;
        writeln!(file, "{{\"schema\":{SCHEMA},\"runs\":[\n{runs}\n]}}")?;
        // Before the rename: a crash after it must not leave an empty file under the name.
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}

/// Adds `run` to the baseline at `path`, without its first `warm_up_blocks`, and drops the
/// oldest runs beyond `keep`. Makes the file, and its folder, where there is none. Another
/// process that adds its own run meanwhile is waited for; the file is replaced whole or not at
/// all.
///
/// # Errors
/// When `run` can be no measure for others, when it is not of the target, profile, plan,
/// machine and engine of those stored, when what is stored cannot be read, and when the file
/// cannot be written.
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
    fs::create_dir_all(folder).map_err(|source| BaselineError::file("make", folder, source))?;
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
    baseline.runs.push(stored::stored(run, warm_up_blocks));
    let beyond = baseline.runs.len().saturating_sub(keep.get());
    baseline.runs.drain(..beyond);
    let written = baseline.write(path);
    written.map_err(|source| BaselineError::file("write", path, source))?;
    Ok(baseline)
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
