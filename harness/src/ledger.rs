//! The resource ledger: what exists because of us, written down before it is made.
//!
//! One JSON line an act, appended in one write. Whoever dies leaves lines that say
//! `made` without `gone`; the next start, or `down --all`, takes them away.

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

/// What the ledger has of things that may be there.
#[derive(Debug, Default)]
pub struct Open {
    /// What was made and is not known to be gone.
    pub entries: Vec<Entry>,
    /// What another version wrote down and this one does not understand, one line each.
    pub not_understood: Vec<String>,
}

#[derive(Serialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
enum Line<'a> {
    Made(&'a Entry),
    Gone { id: &'a str },
}

/// What every version's lines have.
#[derive(Deserialize)]
struct Act {
    act: String,
    id: Option<String>,
}

/// A line that still counts, as it was written: another version may know more of it.
struct Kept {
    id: Option<String>,
    line: String,
}

/// The ledger cannot be kept, so nothing may be made.
#[derive(Debug, Error, Diagnostic)]
pub enum LedgerError {
    /// Another process has it, and does not go on.
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
        /// The system's word.
        source: io::Error,
    },
}

impl LedgerError {
    /// In one line, with what to do.
    pub fn with_help(&self) -> String {
        match self.help() {
            Some(help) => format!("{self}; {help}"),
            None => self.to_string(),
        }
    }
}

/// Each holds the ledger for an instant.
const DEADLINE: Duration = Duration::from_secs(10);

impl Ledger {
    /// The ledger in this file, which need not exist yet.
    pub fn at(path: PathBuf) -> Self {
        Ledger {
            lock: path.with_extension("lock"),
            owners: Owners::of(path.parent().unwrap_or(Path::new("."))),
            path,
        }
    }

    /// Those who own what is in it.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Writes down that `resource` is about to be made by this process. Returns its id.
    ///
    /// # Errors
    /// [`LedgerError`]: then it must not be made.
    pub async fn record(
        &self,
        environment: &str,
        resource: Resource,
    ) -> Result<String, LedgerError> {
        let entry = Entry {
            id: format!("{:016x}", rand::random::<u64>()),
            at: Timestamp::now(),
            environment: environment.to_owned(),
            owner: self.owners.sign_in().await?,
            resource,
        };
        let line = json(&Line::Made(&entry));
        self.alone(|ledger| ledger.append(&line?)).await?;
        Ok(entry.id)
    }

    /// Writes down that the resource is gone.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn release(&self, id: &str) -> Result<(), LedgerError> {
        let line = json(&Line::Gone { id });
        self.alone(|ledger| ledger.append(&line?)).await
    }

    /// Everything made and not known to be gone.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn open(&self) -> Result<Open, LedgerError> {
        let kept = self.alone(Ledger::read).await?;
        let mut open = Open::default();
        for Kept { line, .. } in kept {
            match serde_json::from_str(&line) {
                Ok(entry) => open.entries.push(entry),
                Err(_) => open.not_understood.push(line),
            }
        }
        Ok(open)
    }

    /// Forgets these and all that is gone. The file shrinks, also on a full disk: without
    /// open entries the fresh one is empty.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn forget(&self, gone: &[String]) -> Result<(), LedgerError> {
        self.alone(|ledger| ledger.rewrite_without(gone)).await
    }

    /// Does `work`, which takes an instant, while no other process reads or writes the
    /// ledger. A caller that is dropped meanwhile has written nothing: there is no await
    /// between the write and its answer.
    async fn alone<T>(
        &self,
        work: impl FnOnce(&Ledger) -> io::Result<T>,
    ) -> Result<T, LedgerError> {
        let _held = file_lock::lock(&self.lock, DEADLINE, &|_| ()).await?;
        work(self).map_err(|source| LedgerError::File {
            path: self.path.clone(),
            source,
        })
    }

    fn append(&self, line: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        write_line(&mut file, line)
    }

    /// Whole or not at all.
    fn rewrite_without(&self, gone: &[String]) -> io::Result<()> {
        let kept = self.read()?;
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        for Kept { id, line } in kept {
            if !id.is_some_and(|id| gone.contains(&id)) {
                write_line(&mut file, &line)?;
            }
        }
        fs::rename(&fresh, &self.path)
    }

    fn read(&self) -> io::Result<Vec<Kept>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut kept: Vec<Kept> = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line?;
            // A line torn by a crash: what it announced was never made.
            let Ok(Act { act, id }) = serde_json::from_str(&line) else {
                continue;
            };
            match act.as_str() {
                "gone" => kept.retain(|made| made.id != id),
                _ => kept.push(Kept { id, line }),
            }
        }
        Ok(kept)
    }
}

fn json(line: &Line<'_>) -> io::Result<String> {
    serde_json::to_string(line).map_err(io::Error::other)
}

/// A leading newline too: a torn line before this one must not swallow it.
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

    async fn open(ledger: &Ledger) -> Vec<Entry> {
        ledger.open().await.unwrap().entries
    }

    #[tokio::test]
    async fn what_was_made_and_not_released_is_open() {
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
    async fn a_torn_line_swallows_nothing() {
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
    async fn a_ledger_that_cannot_be_written_says_so() {
        let (folder, _) = ledger();
        fs::write(folder.path().join("file"), "").unwrap();
        let ledger = Ledger::at(folder.path().join("file/ledger.jsonl"));
        let error = ledger.record("default", directory("/a")).await.unwrap_err();
        assert!(error.to_string().contains("file/"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_go_on_is_named_at_the_deadline() {
        let (_folder, ledger) = ledger();
        ledger.record("default", directory("/a")).await.unwrap();
        let _held = file_lock::try_lock(&ledger.lock).unwrap();
        let error = ledger.open().await.unwrap_err().with_help();
        let own = format!("locked by process {}", std::process::id());
        assert!(error.contains(&own), "{error}");
        assert!(error.contains("ends it"), "what to do: {error}");
    }

    /// Lines as a later version may write them.
    #[tokio::test]
    async fn what_a_later_version_wrote_is_kept_and_told() {
        let (_folder, ledger) = ledger();
        ledger.record("default", directory("/a")).await.unwrap();
        let lines = fs::read_to_string(&ledger.path).unwrap();
        let known = lines.trim().replacen('{', r#"{"lease":7,"#, 1);
        let unknown = r#"{"act":"made","id":"v1","kind":"volume","name":"data"}"#;
        let released = r#"{"act":"made","id":"v2","kind":"volume","name":"old"}"#;
        let act = r#"{"act":"lent","to":"another"}"#;
        let gone = r#"{"act":"gone","id":"v2","why":"released"}"#;
        fs::write(
            &ledger.path,
            [&known, unknown, released, act, gone].join("\n"),
        )
        .unwrap();
        ledger.forget(&[]).await.unwrap();
        let text = fs::read_to_string(&ledger.path).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(kept, [&known, unknown, act]);
        let open = ledger.open().await.unwrap();
        assert_eq!(open.entries.len(), 1, "{open:?}");
        assert_eq!(open.not_understood, [unknown, act]);
    }
}
