//! A result as a file: whole, or not there.

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
#[diagnostic(help("free space or make the folder writable: `df -h` and `ls -ld` on it tell"))]
pub struct Unwritten {
    path: PathBuf,
    source: std::io::Error,
}

/// There is no result to be read.
#[derive(Debug, Error, Diagnostic)]
pub enum Unread {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    #[diagnostic(help("`cargo xtask load run` says where its result is"))]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// It is something else, or cut off.
    #[error("{} is no load result: {source}", path.display())]
    #[diagnostic(help(
        "it is `load-PROFILE.json` of a run's folder; `load show` reads its log, too"
    ))]
    NotOne {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
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

/// What is looked at first: the rest of another schema is not understood.
#[derive(Deserialize)]
pub struct Schema {
    /// Its number.
    pub schema: u32,
}

impl LoadResult {
    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn read(path: &Path) -> Result<LoadResult, Unread> {
        let path = path.to_owned();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(Unread::File { path, source }),
        };
        let read = serde_json::from_str(&text).and_then(|Schema { schema }| match schema {
            SCHEMA => serde_json::from_str(&text).map(Ok),
            found => Ok(Err(found)),
        });
        match read {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(found)) => Err(Unread::OtherSchema { path, found }),
            Err(source) => Err(Unread::NotOne { path, source }),
        }
    }

    /// Writes it as JSON. Under its name there is never less than all of it.
    ///
    /// # Errors
    /// [`Unwritten`]; nothing is left then.
    pub fn write(&self, path: &Path) -> Result<(), Unwritten> {
        let written = self.write_beside(path);
        written.map_err(|source| Unwritten {
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
        // A name that is there before its content is would read as whole after a crash.
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}
