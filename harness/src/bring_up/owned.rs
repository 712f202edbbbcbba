//! All that an environment is made of, and how it is taken away again.
//!
//! What is made is put here at once, so that a bring-up cut short at any point leaves
//! nothing that [`Owned::release`] does not see.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use testcontainers::{ContainerAsync, GenericImage};
use tokio_util::task::TaskTracker;

use super::containers::{ContainerWatch, ENGINE_PATIENCE, OwnedContainer};
use super::directory;
use super::error::UpError;
use crate::engine::Engine;
use crate::ledger::{Ledger, LedgerError, Resource};
use crate::local::colours::Colours;
use crate::process::bound::{BoundChild, Program, describe};
use crate::process::identity::ProcessIdentity;
use crate::router::Router;
use crate::run::event::Part;
use crate::sweep;
use crate::wait::{self, Observation, WaitError};

/// The parts of one environment. Shared by the steps that bring it up at the same time.
pub struct Owned {
    environment: String,
    ledger: Ledger,
    holdings: Mutex<Holdings>,
    /// What the engine is at.
    under_way: TaskTracker,
}

#[derive(Default)]
struct Holdings {
    router: Option<Router>,
    colours: Option<Colours>,
    children: Vec<Child>,
    containers: Vec<OwnedContainer>,
    clusters: Vec<OfEngine>,
    networks: Vec<OfEngine>,
    directories: Vec<(String, PathBuf)>,
}

/// Something of the engine's that is not watched.
struct OfEngine {
    entry: String,
    resource: Resource,
    engine: Engine,
}

struct Child {
    entry: String,
    process: BoundChild,
    /// Its end was asked for or has been reported.
    expected_to_end: bool,
}

impl Child {
    fn describe(&self) -> String {
        format!("process {} ({})", self.process.pid(), self.process.name)
    }
}

/// Each entry of the ledger, and why what it is about could not be removed.
async fn remove_all(all: Vec<OfEngine>) -> Vec<(String, Result<(), String>)> {
    let removals = all.into_iter().map(async |one| {
        let removed = sweep::remove_from(&one.engine, &one.resource).await;
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

/// What testcontainers says of a container it was asked to start.
type Started = testcontainers::core::error::Result<ContainerAsync<GenericImage>>;

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
            under_way: TaskTracker::new(),
        }
    }

    /// The environment these parts belong to.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// Makes a temporary directory that is gone after [`Owned::release`].
    ///
    /// In the system's place for such, where another user can reach it.
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

    /// Takes over a cluster or a network that is about to be created, and writes it down.
    pub fn adopt(&self, resource: Resource, engine: &Engine) -> Result<(), LedgerError> {
        let of_engine = OfEngine {
            entry: self.record(resource.clone())?,
            engine: engine.clone(),
            resource,
        };
        let mut holdings = self.hold();
        match of_engine.resource {
            Resource::Network { .. } => holdings.networks.push(of_engine),
            _ => holdings.clusters.push(of_engine),
        }
        Ok(())
    }

    /// Takes over a container that is about to be created.
    pub fn adopt_container(&self, container: OwnedContainer) {
        self.hold().containers.push(container);
    }

    /// Has the engine do something in a task of its own: a caller who stops waiting does
    /// not leave it half done, and [`Owned::release`] waits for it.
    pub async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        let done = self.under_way.spawn(work).await;
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
            let handle = Arc::new(start.await?.map_err(|error| crate::chain(&error))?);
            let mut holdings = owned.hold();
            if let Some(container) = holdings.containers.iter_mut().find(|c| c.is(&name)) {
                container.started(Arc::clone(&handle));
            }
            Ok(handle)
        })
        .await
    }

    /// Takes over the router.
    pub fn adopt_router(&self, router: Router) {
        self.hold().router = Some(router);
    }

    /// Takes over what sees to a service on two colours.
    pub fn adopt_colours(&self, colours: Colours) {
        self.hold().colours = Some(colours);
    }

    /// Whether the end of the child of this name is no loss: whoever started it sees to it.
    pub fn expect_end(&self, name: &str, expected: bool) {
        self.with_child(name, |child| child.expected_to_end = expected);
    }

    /// Sends the child of this name a signal, unless it has ended.
    pub fn ask(&self, name: &str, signal: Signal) {
        self.with_child(name, |child| child.process.send(signal));
    }

    /// How the child of this name ended, if it has.
    pub fn ended(&self, name: &str) -> Option<ExitStatus> {
        self.with_child(name, |child| child.process.has_ended())?
    }

    /// The process id of the child of this name.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.with_child(name, |child| child.process.pid())
    }

    /// Stops and forgets the child of this name, e.g. one that found its port taken.
    pub async fn discard(&self, name: &str, grace: Duration) -> Result<(), UpError> {
        self.with_child(name, |child| child.process.request_stop());
        if self.until_ended(name, grace).await.is_err() {
            self.with_child(name, |child| child.process.kill());
            // The kernel ends it: what is waited for is the news of that.
            let _ = self.until_ended(name, grace).await;
        }
        // Held until here, so that a caller who stops waiting leaves it to `release`.
        Ok(self.forget(name)?)
    }

    /// Forgets the child of this name. One that still runs is killed.
    pub fn forget(&self, name: &str) -> Result<(), LedgerError> {
        let entry = {
            let mut holdings = self.hold();
            let at = holdings
                .children
                .iter()
                .position(|child| child.process.name == name);
            at.map(|at| holdings.children.remove(at).entry)
        };
        match entry {
            Some(entry) => self.ledger.release(&entry),
            None => Ok(()),
        }
    }

    async fn until_ended(&self, name: &str, deadline: Duration) -> Result<ExitStatus, WaitError> {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        let what = format!("{name} ends");
        wait::until(what, deadline, LOOK_EVERY, async || {
            match self.with_child(name, |child| child.process.has_ended()) {
                Some(Some(status)) => Observation::Ready(status),
                Some(None) => Observation::NotYet("still running".into()),
                None => Observation::Hopeless("there is no such child".into()),
            }
        })
        .await
    }

    fn with_child<T>(&self, name: &str, act: impl FnOnce(&mut Child) -> T) -> Option<T> {
        let mut holdings = self.hold();
        let child = holdings
            .children
            .iter_mut()
            .find(|child| child.process.name == name)?;
        Some(act(child))
    }

    /// Waits for a child that is meant to end by itself.
    pub async fn finish(&self, name: &str, deadline: Duration) -> Result<ExitStatus, UpError> {
        let status = self.until_ended(name, deadline).await;
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
        self.under_way.close();
        // Bounded: each of them has its own deadline with the engine.
        let _ = tokio::time::timeout(ENGINE_PATIENCE, self.under_way.wait()).await;
        let Holdings {
            router,
            colours,
            children,
            containers,
            clusters,
            networks,
            directories,
        } = std::mem::take(&mut *self.hold());
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        if let Some(router) = router {
            router.stop(grace).await;
        }
        if let Some(colours) = colours {
            colours.stop().await;
        }
        let (backing, services): (Vec<_>, Vec<_>) = children
            .into_iter()
            .partition(|child| super::is_backing(&child.process.name));
        for wave in [services, backing] {
            for (child, stopped) in stop_all(wave, grace).await {
                match stopped {
                    Ok(_) => gone.push(child.entry),
                    Err(error) => left.push(format!("{}: {error}", child.describe())),
                }
            }
        }
        // At once: an engine that does not answer is waited for only once.
        let containers = async {
            let removed = containers.iter().map(async |container| {
                let removed = container.remove().await;
                removed.map_err(|reason| format!("{}: {reason}", container.describe()))
            });
            let removed = futures::future::join_all(removed).await;
            let entries = containers.iter().map(|container| container.entry.clone());
            entries.zip(removed).collect::<Vec<_>>()
        };
        let (containers, clusters) = tokio::join!(containers, remove_all(clusters));
        // Nothing is on them any more.
        let networks = remove_all(networks).await;
        for (entry, removed) in [containers, clusters, networks].concat() {
            match removed {
                Ok(()) => gone.push(entry),
                Err(reason) => left.push(reason),
            }
        }
        for (entry, path) in directories {
            match directory::remove(&path).await {
                Ok(()) => gone.push(entry),
                Err(reason) => left.push(format!("directory {}: {reason}", path.display())),
            }
        }
        // All in one: there is room for that on a full disk, too.
        let forgotten = self.ledger.forget(&gone);
        left.extend(forgotten.err().map(|error| error.to_string()));
        left
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
        metrics: None,
        log: Some(format!("{}/{name}.log", crate::run::LOGS)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_a_caller_gave_up_is_seen_through_before_all_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::at(folder.path().join("ledger.jsonl"));
        let owned = Owned::new("mine", ledger);
        let made = Arc::new(AtomicBool::new(false));
        let (engine_answers, answer) = oneshot::channel::<()>();
        let making = {
            let made = Arc::clone(&made);
            owned.see_through(async move {
                let answered = answer.await;
                made.store(true, Ordering::SeqCst);
                answered.map_err(|error| error.to_string())
            })
        };
        tokio::select! {
            biased;
            _ = making => panic!("the engine has not answered"),
            () = tokio::task::yield_now() => {}
        }
        let (left, ()) = tokio::join!(owned.release(Duration::ZERO), async {
            engine_answers.send(()).unwrap();
        });
        assert_eq!(left, [] as [String; 0]);
        assert!(made.load(Ordering::SeqCst));
    }
}
