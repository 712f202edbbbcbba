//! What a test must not leave behind.

use std::collections::HashMap;
use std::fs;
use std::net::TcpStream;

use bollard::query_parameters::ListContainersOptionsBuilder;
use machine::engine::Engine;
use serde_json::Value;

use crate::machine::{Process, eventually, shared_memory};
use crate::rig::{Rig, SECONDS};

/// What an environment uses of this machine, noted while it is up.
pub struct Traces {
    mark: String,
    processes: Vec<Process>,
    addresses: Vec<String>,
    /// Postgres' shared memory, as `key id`.
    shared_memory: Option<String>,
}

impl Rig {
    /// Returns what must not exist after the environment is down.
    pub fn traces(&self) -> Traces {
        let environment = self.environment().unwrap_or_default();
        let parts = environment["parts"].as_array().into_iter().flatten();
        let parts = parts.map(|part| &part["address"]);
        let addresses = parts.chain([&environment["entry"]["address"]]);
        let mark = format!("trii-{}-", self.name);
        Traces {
            addresses: addresses
                .filter_map(|address| Some(address.as_str()?.to_owned()))
                .collect(),
            processes: self.processes(),
            shared_memory: shared_memory_of(&mark),
            mark,
        }
    }
}

impl Traces {
    /// Waits until nothing of it exists.
    pub fn are_gone(&self, rig: &Rig) {
        eventually("nothing is left", SECONDS, || {
            let remaining = self.remaining(rig);
            match remaining.is_empty() {
                true => Ok(()),
                false => Err(remaining.join("\n")),
            }
        });
    }

    fn remaining(&self, rig: &Rig) -> Vec<String> {
        // The noted ones, too: an orphan does not have its parent's mark.
        let noted = self.processes.iter().filter(|noted| {
            Process::of(noted.pid).is_some_and(|now| now.runs() && now.command == noted.command)
        });
        let processes = rig.processes();
        let processes = noted
            .chain(&processes)
            .map(|process| format!("process {} {}", process.pid, process.command));
        let listening = self
            .addresses
            .iter()
            .filter(|address| TcpStream::connect(address).is_ok())
            .map(|address| format!("{address} is listened on"));
        let segments = shared_memory();
        let segments = self
            .shared_memory
            .iter()
            .filter(|ours| segments.contains(ours))
            .map(|segment| format!("shared memory {segment}"));
        let folder = rig.environment_folder();
        let folder = folder.exists().then(|| folder.display().to_string());
        processes
            .chain(listening)
            .chain(segments)
            .chain(directories(&self.mark))
            .chain(open_entries(rig))
            .chain(folder)
            .collect()
    }
}

/// Returns the names of the environment's containers, also of those that have exited.
pub async fn containers(engine: &Engine, rig: &Rig) -> Vec<String> {
    let mark = format!("trii-{}-", rig.name);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&HashMap::from([("name", vec![mark])]))
        .build();
    let listed = engine.client().list_containers(Some(options)).await;
    let names = listed
        .unwrap()
        .into_iter()
        .filter_map(|container| container.names);
    names
        .flatten()
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect()
}

/// Returns the temporary directories of an environment.
fn directories(mark: &str) -> Vec<String> {
    let entries = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    entries
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.contains(mark))
        .collect()
}

fn shared_memory_of(mark: &str) -> Option<String> {
    let postgres = directories(mark)
        .into_iter()
        .find(|path| path.contains("-postgres-"))?;
    let text = fs::read_to_string(format!("{postgres}/data/postmaster.pid")).ok()?;
    let mut fields = text.lines().nth(6)?.split_whitespace();
    Some(format!("{} {}", fields.next()?, fields.next()?))
}

/// Returns the ledger's entries that were made and not removed.
fn open_entries(rig: &Rig) -> Vec<String> {
    let text = fs::read_to_string(rig.ledger()).unwrap_or_default();
    let mut open: Vec<Value> = Vec::new();
    for line in text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        match line["act"] == "made" {
            true => open.push(line),
            false => open.retain(|made| made["id"] != line["id"]),
        }
    }
    open.iter()
        .map(|entry| format!("ledger: {entry}"))
        .collect()
}
