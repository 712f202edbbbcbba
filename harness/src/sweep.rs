//! Takes away what dead owners left.

use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;

use crate::bring_up::{containers, directory};
use crate::engine::Engine;
use crate::environment::EnvironmentFolder;
use crate::home::Home;
use crate::images::BUILDS;
use crate::kind::{cluster, network};
use crate::ledger::{Entry, Ledger, Resource};
use crate::process::identity::ProcessIdentity;
use crate::wait::{self, Observation, WaitError};

/// Removes every resource whose owner is dead. Returns what could not be removed.
pub async fn dead_owners(home: &Home) -> Vec<String> {
    let mut left = recorded(home, |entry| !entry.owner.is_alive()).await;
    for name in EnvironmentFolder::all(home) {
        let folder = EnvironmentFolder::of(home, &name);
        left.extend(folder.sweep().await.err().map(|error| error.to_string()));
    }
    left
}

/// Removes every resource that this process wrote down and still has. Returns what could
/// not be removed.
pub async fn own(home: &Home) -> Vec<String> {
    let own = ProcessIdentity::own();
    recorded(home, |entry| entry.owner == own).await
}

/// Removes what this process has left of images that it was building when it was called off.
/// Returns what could not be removed.
pub async fn own_builds(home: &Home) -> Vec<String> {
    let own = ProcessIdentity::own();
    let is_ours = |entry: &Entry| entry.owner == own && entry.environment.starts_with(BUILDS);
    recorded(home, is_ours).await
}

async fn recorded(home: &Home, is_due: impl Fn(&Entry) -> bool) -> Vec<String> {
    let ledger = Ledger::at(home.ledger());
    let mut entries = match ledger.open_entries() {
        Ok(entries) => entries,
        Err(error) => return vec![error.to_string()],
    };
    entries.retain(is_due);
    // A process may still write into a directory.
    entries.sort_by_key(|entry| order(&entry.resource));
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    for of_one_kind in entries.chunk_by(|one, other| order(&one.resource) == order(&other.resource))
    {
        // At once: what does not answer is waited for only once.
        let removed = of_one_kind.iter().map(remove);
        let removed = futures::future::join_all(removed).await;
        for (Entry { id, resource, .. }, removed) in of_one_kind.iter().zip(removed) {
            match removed {
                Ok(()) => gone.push(id.clone()),
                Err(reason) => left.push(format!("{resource}: {reason}")),
            }
        }
    }
    left.extend(ledger.forget(&gone).err().map(|error| error.to_string()));
    left
}

fn order(resource: &Resource) -> u8 {
    match resource {
        Resource::Process { .. } => 0,
        Resource::Container { .. } | Resource::Cluster { .. } => 1,
        // Once nothing is on it any more.
        Resource::Network { .. } => 2,
        Resource::Directory { .. } => 3,
    }
}

async fn remove(entry: &Entry) -> Result<(), String> {
    let resource = &entry.resource;
    match resource {
        Resource::Directory { path } => directory::remove(path).await,
        Resource::Process { identity, .. } => end(identity).await,
        Resource::Container { engine, .. }
        | Resource::Cluster { engine, .. }
        | Resource::Network { engine, .. } => {
            let engine = Engine::at(engine).await;
            let engine = engine.map_err(|error| error.to_string())?;
            settled(&engine, entry).await;
            remove_from(&engine, resource).await
        }
    }
}

/// An engine goes on with a request whose asker has died. This long after the request was
/// written down it is done with it.
const SETTLED: Duration = Duration::from_secs(10);

/// Waits until the engine has what it may still be making, or is not making it.
async fn settled(engine: &Engine, entry: &Entry) {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let age = Timestamp::now().duration_since(entry.at);
    // A clock that was set back makes it no older.
    let age = Duration::try_from(age).unwrap_or_default();
    let there = wait::until(
        "the engine has made what it was asked for",
        SETTLED.saturating_sub(age),
        LOOK_EVERY,
        async || match is_absent(engine, &entry.resource).await {
            true => Observation::NotYet("it is not there".into()),
            false => Observation::Ready(()),
        },
    );
    // What was not made in that time was never asked for.
    let _ = there.await;
}

/// Whether the engine says that it has no such thing. A cluster is never absent: its
/// removal waits for whoever still makes a node.
async fn is_absent(engine: &Engine, resource: &Resource) -> bool {
    let docker = engine.client();
    let inspected = match resource {
        Resource::Container { name, .. } => docker.inspect_container(name, None).await.map(drop),
        Resource::Network { name, .. } => docker.inspect_network(name, None).await.map(drop),
        Resource::Cluster { .. } | Resource::Directory { .. } | Resource::Process { .. } => Ok(()),
    };
    inspected.is_err_and(|error| containers::refusal(&error) == Some(404))
}

/// Removes what the engine has; what it does not have, or never could, is removed.
pub(crate) async fn remove_from(engine: &Engine, resource: &Resource) -> Result<(), String> {
    match resource {
        Resource::Container { name, .. } => containers::remove(engine, name).await,
        Resource::Cluster { name, .. } => cluster::remove(engine, name).await,
        Resource::Network { name, .. } => network::remove(engine, name).await,
        Resource::Directory { .. } | Resource::Process { .. } => Ok(()),
    }
}

/// The owner's death has told it to end. One that was stopped has not heard: it may go on.
async fn end(process: &ProcessIdentity) -> Result<(), String> {
    process.signal(Signal::SIGCONT);
    if gone(process, Duration::from_secs(2)).await.is_ok() {
        return Ok(());
    }
    process.signal(Signal::SIGKILL);
    let killed = gone(process, Duration::from_secs(5)).await;
    killed.map_err(|error| error.to_string())
}

async fn gone(process: &ProcessIdentity, deadline: Duration) -> Result<(), WaitError> {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    wait::until(
        "the process is gone",
        deadline,
        LOOK_EVERY,
        async || match process.is_alive() {
            false => Observation::Ready(()),
            true => Observation::NotYet("alive".into()),
        },
    )
    .await
}
