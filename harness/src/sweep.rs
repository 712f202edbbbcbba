//! Takes away what dead owners left.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::engine::Engine;
use crate::environment::EnvironmentFolder;
use crate::home::Home;
use crate::ledger::{Entry, Ledger, Resource};
use crate::local::{containers, remove_directory};
use crate::wait::{self, Observation};

/// Removes every resource whose owner is dead. Returns what could not be removed.
pub async fn dead_owners(home: &Home) -> Vec<String> {
    let ledger = Ledger::at(home.ledger());
    let entries = match ledger.open_entries() {
        Ok(entries) => entries,
        Err(error) => return vec![error.to_string()],
    };
    let mut left = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.owner.is_alive()) {
        match remove(&entry.resource).await {
            Ok(()) => left.extend(ledger.release(&entry.id).err().map(|e| e.to_string())),
            Err(reason) => left.push(format!("{}: {reason}", entry.resource)),
        }
    }
    for name in EnvironmentFolder::all(home) {
        let folder = EnvironmentFolder::of(home, &name);
        // Taken for the moment, so that it cannot come up meanwhile.
        if let Ok(_lock) = folder.take(&name, "sweep") {
            left.extend(folder.remove().err().map(|error| error.to_string()));
        }
    }
    left.extend(ledger.compact().err().map(|error| error.to_string()));
    left
}

async fn remove(resource: &Resource) -> Result<(), String> {
    match resource {
        Resource::Directory { path } => remove_directory(path).map_err(|error| error.to_string()),
        Resource::Process { identity, .. } => {
            identity.signal(Signal::SIGKILL);
            let gone = wait::until(
                "the process is gone",
                Duration::from_secs(5),
                Duration::from_millis(10),
                async || match identity.is_alive() {
                    false => Observation::Ready(()),
                    true => Observation::NotYet("alive after SIGKILL".into()),
                },
            );
            gone.await.map_err(|error| error.to_string())
        }
        Resource::Container { name, engine } => {
            let engine = Engine::at(engine)
                .await
                .map_err(|error| error.to_string())?;
            containers::remove(&engine, name).await
        }
    }
}

/// What the ledger knows of an environment, e.g. for a message about what is left.
pub fn entries_of(home: &Home, environment: &str) -> Vec<Entry> {
    let entries = Ledger::at(home.ledger()).open_entries().unwrap_or_default();
    entries
        .into_iter()
        .filter(|entry| entry.environment == environment)
        .collect()
}
