//! The resources of an environment, and their removal.
//!
//! Each resource is recorded here before or while it is created. So [`Owned::release`] removes all
//! of them, also after a bring-up that was cancelled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use nix::sys::signal::Signal;
use testcontainers::{ContainerAsync, GenericImage};
use tokio_util::task::TaskTracker;

use super::containers::{ContainerWatch, OwnedContainer};
use super::error::UpError;
use super::{Lost, directory};
use base::ledger::{Ledger, LedgerError, Resource};
use base::process::identity::ProcessIdentity;
use base::process::{BoundChild, Program, describe};
use base::run::event::Part;
use base::wait::{self, Observation, WaitError};
use machine::containers::{ENGINE_TIMEOUT, remove};
use machine::engine::Engine;
use machine::removal;

/// The resources of one environment. Concurrent steps of the bring-up share it.
pub struct Owned {
    environment: String,
    ledger: Ledger,
    resources: Mutex<Resources>,
    /// The running requests to the engine.
    requests: TaskTracker,
}

#[derive(Default)]
struct Resources {
    servers: Vec<StopServer>,
    children: Vec<Child>,
    containers: Vec<OwnedContainer>,
    clusters: Vec<EngineResource>,
    networks: Vec<EngineResource>,
    directories: Vec<(String, PathBuf)>,
    /// The names of children whose end is expected.
    expected_to_end: BTreeSet<String>,
    /// The ledger entries of what was removed, until the ledger records it.
    removed: Vec<String>,
}

impl Resources {
    fn add_child(&mut self, process: BoundChild) {
        self.children.push(Child {
            entry: None,
            expected_to_end: self.expected_to_end.contains(&process.name),
            process,
        });
    }
}

/// Stops a server of this process. The parameter is the time for running requests.
type StopServer = Box<dyn FnOnce(Duration) -> BoxFuture<'static, ()> + Send>;

/// A resource of the engine that is not watched.
struct EngineResource {
    entry: String,
    resource: Resource,
    engine: Engine,
}

struct Child {
    /// Its entry in the ledger.
    entry: Option<String>,
    process: BoundChild,
    /// Whether its end was requested or reported.
    expected_to_end: bool,
}

impl Child {
    fn describe(&self) -> String {
        format!("process {} ({})", self.process.pid(), self.process.name)
    }
}

/// Returns each entry of the ledger with the result of the removal.
async fn remove_all(all: Vec<EngineResource>) -> Vec<(String, Result<(), String>)> {
    let removals = all.into_iter().map(async |one| {
        let removed = removal::remove(&one.engine, &one.resource).await;
        let removed = removed.map_err(|reason| format!("{}: {reason}", one.resource));
        (one.entry, removed)
    });
    futures::future::join_all(removals).await
}

async fn stop_all(
    children: Vec<Child>,
    grace: Duration,
) -> Vec<(Child, std::io::Result<ExitStatus>)> {
    let stopping = children.into_iter().map(async |mut child| {
        let stopped = child.process.stop(grace).await;
        (child, stopped)
    });
    futures::future::join_all(stopping).await
}

type Started = testcontainers::core::error::Result<ContainerAsync<GenericImage>>;

impl Owned {
    /// Creates an empty collection.
    pub fn new(environment: &str, ledger: Ledger) -> Self {
        Owned {
            environment: environment.to_owned(),
            ledger,
            resources: Mutex::default(),
            requests: TaskTracker::new(),
        }
    }

    /// Returns the environment's name.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// Creates a directory in the system's temporary folder. [`Owned::release`] removes it.
    pub async fn directory(&self, purpose: &str) -> Result<PathBuf, UpError> {
        self.directory_in(&std::env::temp_dir(), purpose).await
    }

    /// Creates a directory in `parent`. [`Owned::release`] removes it.
    pub async fn directory_in(&self, parent: &Path, purpose: &str) -> Result<PathBuf, UpError> {
        let unique = format!(
            "trii-{}-{purpose}-{:08x}",
            self.environment,
            rand::random::<u32>()
        );
        let path = parent.join(unique);
        let entry = self
            .record(Resource::Directory { path: path.clone() })
            .await?;
        self.resources().directories.push((entry, path.clone()));
        std::fs::create_dir(&path).map_err(|source| UpError::Directory {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// Starts a child.
    pub async fn start(&self, program: &Program) -> Result<(), UpError> {
        let process = program.start()?;
        let (name, pid) = (process.name.clone(), process.pid());
        self.resources().add_child(process);
        // The child ends with this process. On systems where only a watcher ensures that, the entry
        // helps; it also explains the process to a person.
        let identity = ProcessIdentity::of(pid);
        let resource = Resource::Process {
            name: name.clone(),
            identity: identity.unwrap_or_else(|| ProcessIdentity::not_started(pid)),
        };
        let entry = match self.record(resource).await {
            Ok(entry) => entry,
            Err(error) => {
                // Without an entry, `release` could not report it.
                let _ = self.forget(&name).await;
                return Err(error.into());
            }
        };
        self.with_child(&name, |child| child.entry = Some(entry));
        Ok(())
    }

    /// Records a resource in the ledger, before it is created. Returns the entry's id.
    pub async fn record(&self, resource: Resource) -> Result<String, LedgerError> {
        self.ledger.record(&self.environment, resource).await
    }

    /// Records a cluster or a network before it is created, and owns it.
    pub async fn adopt(&self, resource: Resource, engine: &Engine) -> Result<(), LedgerError> {
        let adopted = EngineResource {
            entry: self.record(resource.clone()).await?,
            engine: engine.clone(),
            resource,
        };
        let mut resources = self.resources();
        match adopted.resource {
            Resource::Network { .. } => resources.networks.push(adopted),
            _ => resources.clusters.push(adopted),
        }
        Ok(())
    }

    /// Owns a container that is about to be created.
    pub fn adopt_container(&self, container: OwnedContainer) {
        self.resources().containers.push(container);
    }

    /// Runs a request to the engine in its own task. A cancelled caller does not interrupt it, and
    /// [`Owned::release`] waits for it.
    pub async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        let done = self.requests.spawn(work).await;
        done.map_err(|panic| panic.to_string())?
    }

    /// Starts an adopted container.
    pub async fn start_container(
        self: &Arc<Self>,
        name: String,
        start: impl Future<Output = Result<Started, String>> + Send + 'static,
    ) -> Result<Arc<ContainerAsync<GenericImage>>, String> {
        let owned = Arc::clone(self);
        self.see_through(async move {
            let handle = Arc::new(start.await?.map_err(|error| base::chain(&error))?);
            owned.with_container(&name, |it| it.started(Arc::clone(&handle)));
            Ok(handle)
        })
        .await
    }

    /// Removes and forgets the container of this name, e.g. one that found its port taken.
    pub async fn discard_container(&self, name: &str) -> Result<(), UpError> {
        let known = self.with_container(name, |it| (it.engine(), it.entry.clone()));
        let Some((engine, entry)) = known else {
            return Ok(());
        };
        let failed = UpError::engine(format!("remove the container {name}"));
        remove(&engine, name).await.map_err(failed)?;
        // Not before: a cancelled caller leaves it to `release`.
        {
            let mut resources = self.resources();
            resources.containers.retain(|it| !it.is(name));
            resources.removed.push(entry.clone());
        }
        self.ledger.release(&entry).await?;
        self.resources().removed.retain(|removed| *removed != entry);
        Ok(())
    }

    fn with_container<T>(
        &self,
        name: &str,
        act: impl FnOnce(&mut OwnedContainer) -> T,
    ) -> Option<T> {
        let mut resources = self.resources();
        let container = resources.containers.iter_mut().find(|it| it.is(name))?;
        Some(act(container))
    }

    /// Owns a server of this process. [`Owned::release`] stops the last one first.
    pub fn adopt_server<Stopped: Future<Output = ()> + Send + 'static>(
        &self,
        stop: impl FnOnce(Duration) -> Stopped + Send + 'static,
    ) {
        let stop: StopServer = Box::new(|grace| stop(grace).boxed());
        self.resources().servers.push(stop);
    }

    /// Sets whether the end of the child of this name is expected, and so not a loss. It applies also
    /// to one that starts later.
    pub fn expect_end(&self, name: &str, expected: bool) {
        match expected {
            true => self.resources().expected_to_end.insert(name.to_owned()),
            false => self.resources().expected_to_end.remove(name),
        };
        self.with_child(name, |child| child.expected_to_end = expected);
    }

    /// Sends the child of this name a signal, unless it has ended.
    pub fn signal(&self, name: &str, signal: Signal) {
        self.with_child(name, |child| child.process.send(signal));
    }

    /// Returns the exit status of the child of this name, if it has exited.
    pub fn ended(&self, name: &str) -> Option<ExitStatus> {
        self.with_child(name, |child| child.process.has_ended())?
    }

    /// Returns the process id of the child of this name.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.with_child(name, |child| child.process.pid())
    }

    /// Stops and forgets the child of this name, e.g. one that found its port taken.
    pub async fn discard(&self, name: &str, grace: Duration) -> Result<(), UpError> {
        self.with_child(name, |child| child.process.request_stop());
        if self.until_ended(name, grace).await.is_err() {
            self.with_child(name, |child| child.process.kill());
            let _ = self.until_ended(name, grace).await;
        }
        // Not before: a cancelled caller leaves it to `release`.
        Ok(self.forget(name).await?)
    }

    /// Forgets the child of this name, and kills it if it still runs.
    pub async fn forget(&self, name: &str) -> Result<(), LedgerError> {
        let entry = {
            let mut resources = self.resources();
            let at = resources
                .children
                .iter()
                .position(|child| child.process.name == name);
            let entry = at.and_then(|at| resources.children.remove(at).entry);
            resources.removed.extend(entry.clone());
            entry
        };
        if let Some(entry) = entry {
            self.ledger.release(&entry).await?;
            self.resources().removed.retain(|removed| *removed != entry);
        }
        Ok(())
    }

    async fn until_ended(&self, name: &str, deadline: Duration) -> Result<ExitStatus, WaitError> {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        wait::until(
            format!("{name} ends"),
            deadline,
            LOOK_EVERY,
            async || match self.with_child(name, |child| child.process.has_ended()) {
                Some(Some(status)) => Observation::Ready(status),
                Some(None) => Observation::NotYet("still running".into()),
                None => Observation::Failed("there is no such child".into()),
            },
        )
        .await
    }

    fn with_child<T>(&self, name: &str, act: impl FnOnce(&mut Child) -> T) -> Option<T> {
        let mut resources = self.resources();
        let child = resources
            .children
            .iter_mut()
            .find(|child| child.process.name == name)?;
        Some(act(child))
    }

    /// Waits for a child that ends by itself, and forgets it. Returns its exit status.
    pub async fn finish(&self, name: &str, deadline: Duration) -> Result<ExitStatus, UpError> {
        let status = self.until_ended(name, deadline).await;
        self.discard(name, Duration::from_secs(5)).await?;
        status.map_err(UpError::wait(name, None))
    }

    /// Returns the children that have ended unexpectedly since the last call.
    pub fn newly_lost(&self) -> Vec<Lost> {
        let mut lost = Vec::new();
        for child in &mut self.resources().children {
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

    /// Watches the containers that are started.
    pub fn watch_containers(&self) -> ContainerWatch {
        ContainerWatch::new(&self.resources().containers)
    }

    /// Removes everything, dependents first. Returns what could not be removed.
    pub async fn release(&self, grace: Duration) -> Vec<String> {
        self.requests.close();
        // Each of them has its own deadline, too.
        let _ = tokio::time::timeout(ENGINE_TIMEOUT, self.requests.wait()).await;
        let Resources {
            servers,
            children,
            containers,
            clusters,
            networks,
            directories,
            expected_to_end: _,
            mut removed,
        } = std::mem::take(&mut *self.resources());
        let mut failed = Vec::new();
        for stop in servers.into_iter().rev() {
            stop(grace).await;
        }
        let (backing, services): (Vec<_>, Vec<_>) = children
            .into_iter()
            .partition(|child| super::is_backing(&child.process.name));
        let stopping = containers.iter().map(|it| it.stop(grace));
        let stopping = futures::future::join_all(stopping);
        let (services, _) = tokio::join!(stop_all(services, grace), stopping);
        let backing = stop_all(backing, grace).await;
        for (child, stopped) in services.into_iter().chain(backing) {
            match stopped {
                Ok(_) => removed.extend(child.entry),
                Err(error) => failed.push(format!("{}: {error}", child.describe())),
            }
        }
        // In parallel, so that the time-outs do not add up.
        let containers = containers.into_iter().map(async |container| {
            let result = container.remove().await;
            let result = result.map_err(|reason| format!("{}: {reason}", container.describe()));
            (container.entry, result)
        });
        let containers = futures::future::join_all(containers);
        let (containers, clusters) = tokio::join!(containers, remove_all(clusters));
        // After everything that uses them.
        let networks = remove_all(networks).await;
        for (entry, result) in [containers, clusters, networks].concat() {
            match result {
                Ok(()) => removed.push(entry),
                Err(reason) => failed.push(reason),
            }
        }
        for (entry, path) in directories {
            match directory::remove(&path).await {
                Ok(()) => removed.push(entry),
                Err(reason) => failed.push(format!("directory {}: {reason}", path.display())),
            }
        }
        // In one write, which a full disk still has room for.
        let forgotten = self.ledger.forget(&removed).await;
        failed.extend(forgotten.err().map(|error| error.with_help()));
        failed
    }

    fn resources(&self) -> MutexGuard<'_, Resources> {
        // The lists are consistent also after a panic.
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the part of a process, for the report.
pub fn process_part(owned: &Owned, name: &str, address: String) -> Part {
    Part {
        name: name.to_owned(),
        runs_as: match owned.pid(name) {
            Some(pid) => format!("process {pid}"),
            None => "process".into(),
        },
        address,
        metrics: None,
        log: Some(format!("{}/{name}.log", base::run::LOGS)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn release_waits_for_a_request_whose_caller_was_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::at(folder.path().join("ledger.jsonl"));
        let owned = Owned::new("mine", ledger);
        let created = Arc::new(AtomicBool::new(false));
        let (engine_answers, answer) = oneshot::channel::<()>();
        let creating = {
            let created = Arc::clone(&created);
            owned.see_through(async move {
                let answered = answer.await;
                created.store(true, Ordering::SeqCst);
                answered.map_err(|error| error.to_string())
            })
        };
        tokio::select! {
            biased;
            _ = creating => panic!("the engine has not answered"),
            () = tokio::task::yield_now() => {}
        }
        let (remaining, ()) = tokio::join!(owned.release(Duration::ZERO), async {
            engine_answers.send(()).unwrap();
        });
        assert_eq!(remaining, [] as [String; 0]);
        assert!(created.load(Ordering::SeqCst));
    }
}
