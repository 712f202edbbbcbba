//! Reads and writes result files.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde::Deserialize;
use thiserror::Error;

use super::{LoadResult, SCHEMA};

/// The result was not written.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot write {}: {source}", path.display())]
#[diagnostic(help("free space or make the folder writable: see `df -h` and `ls -ld`"))]
pub struct WriteError {
    path: PathBuf,
    source: std::io::Error,
}

/// The result cannot be read.
#[derive(Debug, Error, Diagnostic)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    #[diagnostic(help("`cargo xtask load run` prints where its result is"))]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not a result, or it is truncated.
    #[error("{} is not a load result: {source}", path.display())]
    #[diagnostic(help(
        "a result is `load-PROFILE.json` in a run's folder; `load show` also reads the raw log"
    ))]
    NotOne {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// Another version of this program wrote it.
    #[error("{} is a load result of schema {found}; this version reads {SCHEMA}", path.display())]
    #[diagnostic(help("read it with the version that wrote it, or repeat the run"))]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
}

/// The schema of a result, which is read first.
#[derive(Deserialize)]
pub struct Schema {
    /// Its number.
    pub schema: u32,
}

impl LoadResult {
    /// Reads a result that [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(path: &Path) -> Result<LoadResult, ReadError> {
        let text = fs::read_to_string(path).map_err(|source| ReadError::File {
            path: path.to_owned(),
            source,
        })?;
        let not_one = |source| ReadError::NotOne {
            path: path.to_owned(),
            source,
        };
        let Schema { schema } = serde_json::from_str(&text).map_err(not_one)?;
        match schema {
            SCHEMA => serde_json::from_str(&text).map_err(not_one),
            found => Err(ReadError::OtherSchema {
                path: path.to_owned(),
                found,
            }),
        }
    }

    /// Writes the result as JSON, atomically.
    ///
    /// # Errors
    /// [`WriteError`]. No file remains.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let written = self.write_beside(path);
        written.map_err(|source| WriteError {
            path: path.to_owned(),
            source,
        })
    }

    fn write_beside(&self, path: &Path) -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let mut text = BufWriter::new(&mut file);
        serde_json::to_writer_pretty(&mut text, self)?;
        text.write_all(b"\n")?;
        text.flush()?;
        drop(text);
        // Otherwise the name could exist without its content after a crash.
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}
