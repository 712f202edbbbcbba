//! That nothing is left.

use std::fs;
use std::net::TcpStream;

use serde_json::Value;

use crate::machine::{Process, eventually, shared_memory};
use crate::rig::{Rig, SECONDS};

/// What an environment has taken on this machine, noted while it has it.
pub struct Traces {
    mark: String,
    processes: Vec<Process>,
    addresses: Vec<String>,
    /// Postgres' shared memory, as `key id`.
    shared_memory: Option<String>,
}

impl Traces {
    pub fn of(rig: &Rig) -> Traces {
        let environment = rig.environment().unwrap_or_default();
        let parts = environment["parts"].as_array().into_iter().flatten();
        let parts = parts.map(|part| &part["address"]);
        let addresses = parts.chain([&environment["entry"]["address"]]);
        let mark = format!("trii-{}-", rig.name);
        Traces {
            addresses: addresses
                .filter_map(|address| Some(address.as_str()?.to_owned()))
                .collect(),
            processes: rig.processes(),
            shared_memory: shared_memory_of(&mark),
            mark,
        }
    }

    /// All of it is gone, or will be in seconds.
    pub fn are_gone(&self, rig: &Rig) {
        eventually("nothing is left", SECONDS, || {
            let left = self.left(rig);
            match left.is_empty() {
                true => Ok(()),
                false => Err(left.join("\n")),
            }
        });
    }

    fn left(&self, rig: &Rig) -> Vec<String> {
        // Those noted before, too: an orphan has lost the mark that its parent had.
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

/// The temporary directories of an environment.
pub fn directories(mark: &str) -> Vec<String> {
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
    let mut words = text.lines().nth(6)?.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

/// What the ledger says was made and is not gone.
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
