//! All that an environment is made of, and how it is taken away again.
//!
//! What is made is put here at once, so that a bring-up cut short at any point leaves
//! nothing that [`Owned::release`] does not see.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use testcontainers::{ContainerAsync, GenericImage};
use tokio_util::task::TaskTracker;

use super::containers::{ContainerWatch, ENGINE_PATIENCE, OwnedContainer};
use super::error::UpError;
use crate::ledger::{Ledger, LedgerError, Resource};
use crate::process::bound::{BoundChild, Program, describe};
use crate::process::identity::ProcessIdentity;
use crate::router::Router;
use crate::run::event::Part;

/// The parts of one environment. Shared by the steps that bring it up at the same time.
pub struct Owned {
    environment: String,
    ledger: Ledger,
    holdings: Mutex<Holdings>,
    /// Containers that the engine is starting.
    starting: TaskTracker,
}

#[derive(Default)]
struct Holdings {
    router: Option<Router>,
    children: Vec<Child>,
    containers: Vec<OwnedContainer>,
    directories: Vec<(String, PathBuf)>,
}

struct Child {
    entry: String,
    process: BoundChild,
    /// Its end was asked for or has been reported.
    expected_to_end: bool,
}

/// A part that ended although nobody asked it to.
pub struct Lost {
    /// Its name.
    pub part: String,
    /// How it ended, in words.
    pub how: String,
    /// Its log.
    pub log: PathBuf,
}

impl Owned {
    /// Nothing yet.
    pub fn new(environment: &str, ledger: Ledger) -> Self {
        Owned {
            environment: environment.to_owned(),
            ledger,
            holdings: Mutex::default(),
            starting: TaskTracker::new(),
        }
    }

    /// The environment these parts belong to.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// Makes a temporary directory that is gone after [`Owned::release`].
    ///
    /// In the system's place for such, where another user can reach it and the path is
    /// short enough for a socket's.
    pub fn directory(&self, purpose: &str) -> Result<PathBuf, UpError> {
        let unique = format!(
            "trii-{}-{purpose}-{:08x}",
            self.environment,
            rand::random::<u32>()
        );
        let path = std::env::temp_dir().join(unique);
        let entry = self.record(Resource::Directory { path: path.clone() })?;
        self.hold().directories.push((entry, path.clone()));
        std::fs::create_dir(&path).map_err(|source| UpError::Directory {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// Starts a child.
    pub fn start(&self, program: &Program) -> Result<(), UpError> {
        let process = program.start()?;
        let name = process.name.clone();
        // The child is tied to this process; the entry is for where that tie is only a
        // watcher, and to tell a person what a process is.
        let identity = ProcessIdentity::of(process.pid()).unwrap_or(ProcessIdentity {
            pid: process.pid(),
            started: 0,
        });
        let entry = self.record(Resource::Process { name, identity })?;
        self.hold().children.push(Child {
            entry,
            process,
            expected_to_end: false,
        });
        Ok(())
    }

    /// Writes down a container that is about to be created. Returns the entry's id.
    pub fn record(&self, resource: Resource) -> Result<String, LedgerError> {
        self.ledger.record(&self.environment, resource)
    }

    /// Takes over a container that is about to be created.
    pub fn adopt_container(&self, container: OwnedContainer) {
        self.hold().containers.push(container);
    }

    /// Starts an adopted container in a task of its own, so that a caller who stops
    /// waiting does not leave the engine's answer unread.
    pub async fn start_container(
        self: &Arc<Self>,
        name: String,
        start: impl Future<Output = testcontainers::core::error::Result<ContainerAsync<GenericImage>>>
        + Send
        + 'static,
    ) -> Result<Arc<ContainerAsync<GenericImage>>, String> {
        let owned = Arc::clone(self);
        let task = self.starting.spawn(async move {
            let handle = Arc::new(start.await.map_err(|error| crate::chain(&error))?);
            let mut holdings = owned.hold();
            if let Some(container) = holdings.containers.iter_mut().find(|c| c.is(&name)) {
                container.started(Arc::clone(&handle));
            }
            Ok(handle)
        });
        task.await.map_err(|panic| panic.to_string())?
    }

    /// Takes over the router.
    pub fn adopt_router(&self, router: Router) {
        self.hold().router = Some(router);
    }

    /// How the child of this name ended, if it has.
    pub fn ended(&self, name: &str) -> Option<ExitStatus> {
        self.hold()
            .children
            .iter_mut()
            .find(|child| child.process.name == name)
            .and_then(|child| child.process.has_ended())
    }

    /// The process id of the child of this name.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let holdings = self.hold();
        let child = holdings
            .children
            .iter()
            .find(|child| child.process.name == name)?;
        Some(child.process.pid())
    }

    /// Stops and forgets the child of this name, e.g. one that found its port taken.
    pub async fn discard(&self, name: &str, grace: Duration) -> Result<(), UpError> {
        let child = {
            let mut holdings = self.hold();
            let at = holdings
                .children
                .iter()
                .position(|child| child.process.name == name);
            at.map(|at| holdings.children.remove(at))
        };
        if let Some(mut child) = child {
            // It is ours: waiting for it cannot fail.
            let _ = child.process.stop(grace).await;
            self.ledger.release(&child.entry)?;
        }
        Ok(())
    }

    /// Waits for a child that is meant to end by itself.
    pub async fn finish(&self, name: &str, deadline: Duration) -> Result<ExitStatus, UpError> {
        let watched = crate::wait::until(
            format!("{name} ends"),
            deadline,
            Duration::from_millis(5),
            async || match self.ended(name) {
                Some(status) => crate::wait::Observation::Ready(status),
                None => crate::wait::Observation::NotYet("still running".into()),
            },
        );
        let status = watched.await;
        self.discard(name, Duration::from_secs(5)).await?;
        status.map_err(|wait| UpError::Wait {
            part: name.to_owned(),
            log: None,
            wait,
        })
    }

    /// Children that have ended since the last look.
    pub fn newly_lost(&self) -> Vec<Lost> {
        let mut lost = Vec::new();
        for child in &mut self.hold().children {
            if child.expected_to_end {
                continue;
            }
            if let Some(status) = child.process.has_ended() {
                child.expected_to_end = true;
                lost.push(Lost {
                    part: child.process.name.clone(),
                    how: describe(status),
                    log: child.process.log.clone(),
                });
            }
        }
        lost
    }

    /// Notices containers that end.
    pub fn watch_containers(&self) -> ContainerWatch {
        ContainerWatch::new(&self.hold().containers)
    }

    /// Takes everything away, in the reverse of the order in which it depends on each
    /// other. Returns what could not be.
    pub async fn release(&self, grace: Duration) -> Vec<String> {
        self.starting.close();
        // Bounded: each of them has its own deadline with the engine.
        let _ = tokio::time::timeout(ENGINE_PATIENCE, self.starting.wait()).await;
        let Holdings {
            router,
            children,
            containers,
            directories,
        } = std::mem::take(&mut *self.hold());
        let mut left = Vec::new();
        if let Some(router) = router {
            router.stop(grace).await;
        }
        let (backing, services): (Vec<_>, Vec<_>) = children
            .into_iter()
            .partition(|child| super::backing::is_backing(&child.process.name));
        for wave in [services, backing] {
            left.extend(self.stop_all(wave, grace).await);
        }
        for container in containers {
            match container.remove().await {
                Ok(()) => left.extend(self.forget(&container.entry)),
                Err(reason) => left.push(format!("{}: {reason}", container.describe())),
            }
        }
        for (entry, path) in directories {
            match remove_directory(&path) {
                Ok(()) => left.extend(self.forget(&entry)),
                Err(error) => left.push(format!("directory {}: {error}", path.display())),
            }
        }
        left
    }

    async fn stop_all(&self, children: Vec<Child>, grace: Duration) -> Vec<String> {
        let stopped = children.into_iter().map(async |mut child| {
            let name = child.process.name.clone();
            match child.process.stop(grace).await {
                Ok(_) => self.forget(&child.entry),
                Err(error) => Some(format!("process {} ({name}): {error}", child.process.pid())),
            }
        });
        futures::future::join_all(stopped)
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// The resource is gone; if only the ledger cannot be told, that is left.
    fn forget(&self, entry: &str) -> Option<String> {
        self.ledger
            .release(entry)
            .err()
            .map(|error| error.to_string())
    }

    fn hold(&self) -> MutexGuard<'_, Holdings> {
        // A panic while it was held leaves lists that are still whole.
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A service's part, for the report.
pub fn process_part(owned: &Owned, name: &str, address: String) -> Part {
    Part {
        name: name.to_owned(),
        runs_as: match owned.pid(name) {
            Some(pid) => format!("process {pid}"),
            None => "process".into(),
        },
        address,
        log: Some(format!("{}/{name}.log", crate::run::LOGS)),
    }
}

/// Removes a directory; one that is not there is removed.
pub fn remove_directory(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The signals by which a program is asked to end: SIGTERM, and SIGINT for Postgres,
/// whose SIGTERM waits for its clients ("smart shutdown", PostgreSQL 15 manual, 19.5).
pub const POSTGRES_FAST_SHUTDOWN: Signal = Signal::SIGINT;
