//! The resource ledger. Each resource is recorded in it before it is created.
//!
//! Each act is one JSON line, appended in one write. A process that dies leaves lines with `made`
//! but without `gone`. The next start, or `down --all`, deletes these resources.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::file_lock::{self, LockError};
use crate::owner::Owners;
use crate::process::identity::ProcessIdentity;

/// The ledger of one harness home.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
    /// Held while the file is read, written or replaced.
    lock: PathBuf,
    owners: Owners,
}

/// A resource that outlives its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Resource {
    /// A temporary directory.
    Directory {
        /// Absolute path.
        path: PathBuf,
    },
    /// A process that must exit with its owner.
    Process {
        /// Its program, e.g. `postgres`.
        name: String,
        /// Its identity.
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

/// A resource that was created and may still exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Unique in the ledger.
    pub id: String,
    /// The time just before it was created.
    pub at: Timestamp,
    /// The environment it belongs to.
    pub environment: String,
    /// Its owner.
    pub owner: ProcessIdentity,
    /// The resource.
    #[serde(flatten)]
    pub resource: Resource,
}

/// The resources in the ledger that may exist.
#[derive(Debug, Default)]
pub struct Open {
    /// The resources.
    pub entries: Vec<LedgerEntry>,
    /// Lines of another version that this version does not understand.
    pub not_understood: Vec<String>,
}

#[derive(Serialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
enum Line<'a> {
    Made(&'a LedgerEntry),
    Gone { id: &'a str },
}

/// The fields of every version's lines.
#[derive(Deserialize)]
struct Act {
    act: String,
    id: Option<String>,
}

/// A line that is still needed, unchanged: another version may have more fields.
struct OpenLine {
    id: Option<String>,
    text: String,
}

/// The ledger cannot be written, so nothing may be created.
#[derive(Debug, Error, Diagnostic)]
pub enum LedgerError {
    /// Another process holds the lock for too long.
    #[error("cannot keep the resource ledger: {0}")]
    #[diagnostic(transparent)]
    Lock(#[from] LockError),
    /// It cannot be read or written.
    #[error("cannot keep the resource ledger {}: {source}", path.display())]
    #[diagnostic(help(
        "nothing is started that could not be cleaned up again; free space or make the folder writable, or choose another with --home"
    ))]
    File {
        /// The ledger.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl LedgerError {
    /// Returns the error and its help on one line.
    pub fn with_help(&self) -> String {
        match self.help() {
            Some(help) => format!("{self}; {help}"),
            None => self.to_string(),
        }
    }
}

/// A process locks the ledger only for a moment.
const DEADLINE: Duration = Duration::from_secs(10);

impl Ledger {
    /// The ledger in this file. The file need not exist.
    pub fn at(path: PathBuf) -> Self {
        Ledger {
            lock: path.with_extension("lock"),
            owners: Owners::of(path.parent().unwrap_or(Path::new("."))),
            path,
        }
    }

    /// Returns the owners of its resources.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Records that this process is about to create `resource`, and returns the entry's id.
    ///
    /// # Errors
    /// [`LedgerError`]: then the resource must not be created.
    pub async fn record(
        &self,
        environment: &str,
        resource: Resource,
    ) -> Result<String, LedgerError> {
        let entry = LedgerEntry {
            id: format!("{:016x}", rand::random::<u64>()),
            at: Timestamp::now(),
            environment: environment.to_owned(),
            owner: self.owners.sign_in().await?,
            resource,
        };
        self.locked(|ledger| ledger.append(&Line::Made(&entry)))
            .await?;
        Ok(entry.id)
    }

    /// Records that the resource no longer exists.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn release(&self, id: &str) -> Result<(), LedgerError> {
        self.locked(|ledger| ledger.append(&Line::Gone { id }))
            .await
    }

    /// Returns every resource that was created and may still exist.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn open(&self) -> Result<Open, LedgerError> {
        let mut open = Open::default();
        for OpenLine { text, .. } in self.locked(Ledger::read).await? {
            match serde_json::from_str(&text) {
                Ok(entry) => open.entries.push(entry),
                Err(_) => open.not_understood.push(text),
            }
        }
        Ok(open)
    }

    /// Removes these entries, and those of resources that no longer exist, from the file. This
    /// works on a full disk too: without open entries the new file is empty.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn forget(&self, gone: &[String]) -> Result<(), LedgerError> {
        self.locked(|ledger| ledger.rewrite_without(gone)).await
    }

    /// Calls `work` while no other process reads or writes the ledger. There is no await after
    /// the write: if the caller is dropped before the result, nothing was written.
    async fn locked<T>(
        &self,
        work: impl FnOnce(&Ledger) -> io::Result<T>,
    ) -> Result<T, LedgerError> {
        let _lock = file_lock::lock(&self.lock, DEADLINE, &|_| ()).await?;
        work(self).map_err(|source| LedgerError::File {
            path: self.path.clone(),
            source,
        })
    }

    fn append(&self, line: &Line<'_>) -> io::Result<()> {
        let line = serde_json::to_string(line)?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        write_line(&mut file, &line)
    }

    /// Replaces the file atomically.
    fn rewrite_without(&self, gone: &[String]) -> io::Result<()> {
        let open = self.read()?;
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        for OpenLine { id, text } in open {
            if id.is_none_or(|id| !gone.contains(&id)) {
                write_line(&mut file, &text)?;
            }
        }
        fs::rename(&fresh, &self.path)
    }

    fn read(&self) -> io::Result<Vec<OpenLine>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut open: Vec<OpenLine> = Vec::new();
        for text in BufReader::new(file).lines() {
            let text = text?;
            // A crash cut this line short: its resource was never created.
            let Ok(Act { act, id }) = serde_json::from_str(&text) else {
                continue;
            };
            match act.as_str() {
                "gone" => open.retain(|made| made.id != id),
                _ => open.push(OpenLine { id, text }),
            }
        }
        Ok(open)
    }
}

/// Starts with a newline: the line before may have been cut short.
fn write_line(file: &mut File, line: &str) -> io::Result<()> {
    file.write_all(format!("\n{line}\n").as_bytes())
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

    async fn open(ledger: &Ledger) -> Vec<LedgerEntry> {
        ledger.open().await.unwrap().entries
    }

    #[tokio::test]
    async fn a_resource_is_open_until_it_is_released() {
        let (_folder, ledger) = ledger();
        let record = async |name| ledger.record("default", directory(name)).await.unwrap();
        let gone = record("/a").await;
        record("/b").await;
        ledger.release(&gone).await.unwrap();
        let forgotten = record("/c").await;
        ledger.forget(&[forgotten]).await.unwrap();
        let open = open(&ledger).await;
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].resource, directory("/b"));
        assert_eq!(open[0].owner, ProcessIdentity::own());
    }

    #[tokio::test]
    async fn a_line_that_was_cut_short_hides_no_other() {
        let (_folder, ledger) = ledger();
        ledger.record("default", directory("/a")).await.unwrap();
        let text = fs::read_to_string(&ledger.path).unwrap();
        fs::write(&ledger.path, &text[..text.len() - 9]).unwrap();
        ledger.record("default", directory("/b")).await.unwrap();
        let open = open(&ledger).await;
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].resource, directory("/b"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_writers_lose_nothing() {
        let (_folder, ledger) = ledger();
        let writers = (0..8).map(async |writer| {
            for number in 0..10 {
                let path = format!("/{writer}/{number}");
                ledger.record("default", directory(&path)).await.unwrap();
                ledger.forget(&[]).await.unwrap();
            }
        });
        futures::future::join_all(writers).await;
        assert_eq!(open(&ledger).await.len(), 80);
    }

    #[tokio::test]
    async fn a_ledger_that_cannot_be_written_is_an_error() {
        let (folder, _) = ledger();
        fs::write(folder.path().join("file"), "").unwrap();
        let ledger = Ledger::at(folder.path().join("file/ledger.jsonl"));
        let error = ledger.record("default", directory("/a")).await.unwrap_err();
        assert!(error.to_string().contains("file/"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_holder_of_the_lock_is_named_at_the_deadline() {
        let (_folder, ledger) = ledger();
        ledger.record("default", directory("/a")).await.unwrap();
        let _lock = file_lock::try_lock(&ledger.lock).unwrap();
        let error = ledger.open().await.unwrap_err().with_help();
        let own = format!("locked by process {}", std::process::id());
        assert!(error.contains(&own), "{error}");
        assert!(error.contains("ends it"), "what to do: {error}");
    }

    /// Lines as a later version may write them.
    #[tokio::test]
    async fn lines_of_a_later_version_are_kept_and_reported() {
        let (_folder, ledger) = ledger();
        ledger.record("default", directory("/a")).await.unwrap();
        let lines = fs::read_to_string(&ledger.path).unwrap();
        let known = lines.trim().replacen('{', r#"{"lease":7,"#, 1);
        let unknown = r#"{"act":"made","id":"v1","kind":"volume","name":"data"}"#;
        let released = r#"{"act":"made","id":"v2","kind":"volume","name":"old"}"#;
        let act = r#"{"act":"lent","to":"another"}"#;
        let gone = r#"{"act":"gone","id":"v2","why":"released"}"#;
        let lines = [&known, unknown, released, act, gone].join("\n");
        fs::write(&ledger.path, lines).unwrap();
        ledger.forget(&[]).await.unwrap();
        let text = fs::read_to_string(&ledger.path).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(kept, [&known, unknown, act]);
        let open = ledger.open().await.unwrap();
        assert_eq!(open.entries.len(), 1, "{open:?}");
        assert_eq!(open.not_understood, [unknown, act]);
    }
}
