//! A result as a file: whole, or not there.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use super::LoadResult;

/// The result was not written.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot write {}: {source}", path.display())]
#[diagnostic(help("free space or make the folder writable: `df -h` and `ls -ld` on it tell"))]
pub struct Unwritten {
    path: PathBuf,
    source: std::io::Error,
}

impl LoadResult {
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
