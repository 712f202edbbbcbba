//! The resource ledger: what exists because of us, written down before it is made.
//!
//! One JSON line an act, appended in one write. Whoever dies leaves lines that say
//! `made` without `gone`; the next start, or `down --all`, takes them away.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::process::identity::ProcessIdentity;

/// The ledger of one harness home.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
    /// Held while the file is read and rewritten as a whole.
    lock: PathBuf,
}

/// Something that would be left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Resource {
    /// A temporary directory.
    Directory {
        /// Absolute path.
        path: PathBuf,
    },
    /// A process that should have died with its owner.
    Process {
        /// What it is, e.g. `postgres`.
        name: String,
        /// Which.
        identity: ProcessIdentity,
    },
    /// A container of the engine.
    Container {
        /// Its name.
        name: String,
        /// The engine's address, as in `DOCKER_HOST`.
        engine: String,
    },
    /// A kind cluster.
    Cluster {
        /// Its name.
        name: String,
        /// The engine's address, as in `DOCKER_HOST`.
        engine: String,
    },
    /// A network of the engine.
    Network {
        /// Its name.
        name: String,
        /// The engine's address, as in `DOCKER_HOST`.
        engine: String,
    },
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Resource::Directory { path } => write!(f, "directory {}", path.display()),
            Resource::Process { name, identity } => write!(f, "{identity} ({name})"),
            Resource::Container { name, .. } => write!(f, "container {name}"),
            Resource::Cluster { name, .. } => write!(f, "cluster {name}"),
            Resource::Network { name, .. } => write!(f, "network {name}"),
        }
    }
}

/// One resource that was made and is not known to be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unique in the ledger.
    pub id: String,
    /// When it was about to be made.
    pub at: Timestamp,
    /// The environment it belongs to.
    pub environment: String,
    /// Who answers for it.
    pub owner: ProcessIdentity,
    /// What it is.
    #[serde(flatten)]
    pub resource: Resource,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
enum Line {
    Made(Entry),
    Gone { id: String },
}

/// The ledger cannot be kept, so nothing may be made.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot keep the resource ledger {}: {source}", path.display())]
#[diagnostic(help(
    "nothing is started that could not be cleaned up again; free space or make the folder writable, or choose another with --home"
))]
pub struct LedgerError {
    path: PathBuf,
    source: std::io::Error,
}

impl Ledger {
    /// The ledger in this file, which need not exist yet.
    pub fn at(path: PathBuf) -> Self {
        let lock = path.with_extension("lock");
        Ledger { path, lock }
    }

    /// Writes down that `resource` is about to be made by this process. Returns its id.
    pub fn record(&self, environment: &str, resource: Resource) -> Result<String, LedgerError> {
        let id = format!("{:016x}", rand::random::<u64>());
        let entry = Entry {
            id: id.clone(),
            at: Timestamp::now(),
            environment: environment.to_owned(),
            owner: ProcessIdentity::own(),
            resource,
        };
        self.append(&Line::Made(entry))?;
        Ok(id)
    }

    /// Writes down that the resource is gone.
    pub fn release(&self, id: &str) -> Result<(), LedgerError> {
        self.append(&Line::Gone { id: id.to_owned() })
    }

    /// Everything made and not known to be gone.
    pub fn open_entries(&self) -> Result<Vec<Entry>, LedgerError> {
        let _held = self.hold()?;
        self.read()
    }

    /// Forgets these and all that is gone. The file shrinks, also on a full disk: without
    /// open entries the fresh one is empty.
    pub fn forget(&self, gone: &[String]) -> Result<(), LedgerError> {
        let _held = self.hold()?;
        let mut open = self.read()?;
        open.retain(|entry| !gone.contains(&entry.id));
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut fresh =
            tempfile::NamedTempFile::new_in(folder).map_err(|source| self.error(source))?;
        for entry in open {
            write_line(fresh.as_file_mut(), &Line::Made(entry))
                .map_err(|source| self.error(source))?;
        }
        fresh
            .persist(&self.path)
            .map_err(|error| self.error(error.error))?;
        Ok(())
    }

    fn append(&self, line: &Line) -> Result<(), LedgerError> {
        let _held = self.hold()?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .map_err(|source| self.error(source))?;
        write_line(&mut file, line).map_err(|source| self.error(source))
    }

    fn read(&self) -> Result<Vec<Entry>, LedgerError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.error(source)),
        };
        let mut open: Vec<Entry> = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(|source| self.error(source))?;
            match serde_json::from_str(&line) {
                Ok(Line::Made(entry)) => open.push(entry),
                Ok(Line::Gone { id }) => open.retain(|entry| entry.id != id),
                // A line torn by a crash: what it announced was never made.
                Err(_) => {}
            }
        }
        Ok(open)
    }

    /// Other processes append and forget too.
    fn hold(&self) -> Result<File, LedgerError> {
        let hold = || {
            if let Some(folder) = self.lock.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = File::create(&self.lock)?;
            file.lock()?;
            Ok(file)
        };
        hold().map_err(|source| self.error(source))
    }

    fn error(&self, source: std::io::Error) -> LedgerError {
        LedgerError {
            path: self.path.clone(),
            source,
        }
    }
}

/// A leading newline too: a torn line before this one must not swallow it.
fn write_line(file: &mut File, line: &Line) -> std::io::Result<()> {
    let json = serde_json::to_string(line).map_err(std::io::Error::other)?;
    file.write_all(format!("\n{json}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::at(folder.path().join("ledger.jsonl"));
        (folder, ledger)
    }

    fn directory(name: &str) -> Resource {
        Resource::Directory { path: name.into() }
    }

    #[test]
    fn what_was_made_and_not_released_is_open() {
        let (_folder, ledger) = ledger();
        let gone = ledger.record("default", directory("/a")).unwrap();
        ledger.record("default", directory("/b")).unwrap();
        ledger.release(&gone).unwrap();
        let forgotten = ledger.record("default", directory("/c")).unwrap();
        ledger.forget(&[forgotten]).unwrap();
        let open = ledger.open_entries().unwrap();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].resource, directory("/b"));
        assert_eq!(open[0].owner, ProcessIdentity::own());
    }

    #[test]
    fn a_torn_line_swallows_nothing() {
        let (_folder, ledger) = ledger();
        ledger.record("default", directory("/a")).unwrap();
        let text = fs::read_to_string(&ledger.path).unwrap();
        fs::write(&ledger.path, &text[..text.len() - 9]).unwrap();
        ledger.record("default", directory("/b")).unwrap();
        let open = ledger.open_entries().unwrap();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].resource, directory("/b"));
    }

    #[test]
    fn many_writers_lose_nothing() {
        let (_folder, ledger) = ledger();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let ledger = &ledger;
                scope.spawn(move || {
                    for number in 0..10 {
                        let path = format!("/{writer}/{number}");
                        ledger.record("default", directory(&path)).unwrap();
                        ledger.forget(&[]).unwrap();
                    }
                });
            }
        });
        assert_eq!(ledger.open_entries().unwrap().len(), 80);
    }

    #[test]
    fn a_ledger_that_cannot_be_written_says_so() {
        let (folder, _) = ledger();
        fs::write(folder.path().join("file"), "").unwrap();
        let ledger = Ledger::at(folder.path().join("file/ledger.jsonl"));
        let error = ledger.record("default", directory("/a")).unwrap_err();
        assert!(error.to_string().contains("file/ledger.jsonl"));
    }
}
