//! Removes what dead owners left.

use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;

use crate::bring_up::directory;
use crate::environment::{EnvironmentError, EnvironmentFolder, EnvironmentName};
use base::home::Home;
use base::ledger::{Ledger, LedgerEntry, LedgerError, Resource};
use base::process::identity::{Life, ProcessIdentity};
use base::wait::{self, Observation, WaitError};
use machine::engine::Engine;
use machine::images::BUILDS;
use machine::removal;

/// What a sweep did not remove.
#[derive(Debug, Default)]
pub struct Left {
    /// What could not be removed, one line each.
    pub failed: Vec<String>,
    /// What was left alone.
    pub undecided: Vec<Undecided>,
}

/// A resource that was left alone, because it is unknown whether its owner lives.
#[derive(Debug)]
pub struct Undecided {
    /// Its environment, if known.
    pub environment: Option<String>,
    /// Its entry in the ledger, if this version can read it.
    pub entry: Option<LedgerEntry>,
    /// The resource and the reason, in one line.
    pub line: String,
}

impl Left {
    /// Returns whether everything was removed.
    pub fn is_nothing(&self) -> bool {
        self.failed.is_empty() && self.undecided.is_empty()
    }

    /// Returns one line each.
    pub fn lines(self) -> impl Iterator<Item = String> {
        let undecided = self.undecided.into_iter().map(|it| it.line);
        self.failed.into_iter().chain(undecided)
    }

    /// Returns what remains of this environment (with all that could not be removed), then what
    /// was left alone of others. One line each.
    pub fn of(self, environment: &EnvironmentName) -> (Vec<String>, Vec<String>) {
        let name = Some(environment.to_string());
        let (own, others): (Vec<_>, Vec<_>) = self
            .undecided
            .into_iter()
            .partition(|it| it.environment == name);
        let line = |it: Undecided| it.line;
        let own = self.failed.into_iter().chain(own.into_iter().map(line));
        (own.collect(), others.into_iter().map(line).collect())
    }
}

impl Undecided {
    fn recorded(entry: LedgerEntry, why: &str) -> Self {
        let (resource, owner) = (&entry.resource, &entry.owner);
        Undecided {
            environment: Some(entry.environment.clone()),
            line: format!(
                "{resource}: left alone: it is unknown whether {owner}, its owner, lives: {why}"
            ),
            entry: Some(entry),
        }
    }

    fn not_understood(line: &str) -> Self {
        let environment = serde_json::from_str::<serde_json::Value>(line)
            .ok()
            .and_then(|line| Some(line.get("environment")?.as_str()?.to_owned()));
        Undecided {
            environment,
            entry: None,
            line: format!("left alone: another version wrote it into the ledger: {line}"),
        }
    }
}

/// Removes every resource whose owner is dead. Leaves a resource alone if its owner may live.
pub async fn dead_owners(home: &Home) -> Left {
    let ledger = Ledger::at(home.ledger());
    let mut left = Left::default();
    let open = match ledger.open().await {
        Ok(open) => open,
        Err(error) => {
            left.failed.push(error.with_help());
            return left;
        }
    };
    let lines = open.not_understood.iter();
    left.undecided
        .extend(lines.map(|line| Undecided::not_understood(line)));
    let (mut due, mut owners) = (Vec::new(), Vec::new());
    for entry in open.entries {
        owners.push(entry.owner.clone());
        match ledger.owners().life_of(&entry.owner, &entry.environment) {
            Life::Alive => {}
            Life::Dead => due.push(entry),
            Life::Unknown(why) => left.undecided.push(Undecided::recorded(entry, &why)),
        }
    }
    left.failed.extend(remove_all(&ledger, due).await);
    for name in EnvironmentFolder::all(home) {
        match EnvironmentFolder::of(home, &name).sweep().await {
            Ok(()) => {}
            Err(error @ EnvironmentError::Undecided { .. }) => left.undecided.push(Undecided {
                environment: Some(name.to_string()),
                entry: None,
                line: format!("environment {name}: left alone: {error}"),
            }),
            Err(error) => left.failed.push(error.to_string()),
        }
    }
    ledger.owners().tidy(&owners);
    left
}

/// Removes the resources that do not exist any more from the ledger. Returns the others.
pub async fn forget_absent(
    home: &Home,
    undecided: Vec<Undecided>,
) -> Result<Vec<Undecided>, LedgerError> {
    let (mut absent, mut existing) = (Vec::new(), Vec::new());
    for one in undecided {
        match &one.entry {
            Some(entry) if is_gone(&entry.resource).await => absent.push(entry.id.clone()),
            _ => existing.push(one),
        }
    }
    if !absent.is_empty() {
        Ledger::at(home.ledger()).forget(&absent).await?;
    }
    Ok(existing)
}

/// Whether the resource certainly does not exist.
async fn is_gone(resource: &Resource) -> bool {
    match resource {
        Resource::Directory { path } => matches!(path.try_exists(), Ok(false)),
        // A restart of the host has ended it.
        Resource::Process { identity, .. } => identity.is_of_another_boot(),
        Resource::Container { engine, .. }
        | Resource::Cluster { engine, .. }
        | Resource::Network { engine, .. } => match (Engine::at(engine).await, resource) {
            (Ok(engine), Resource::Cluster { name, .. }) => {
                matches!(removal::nodes(&engine, name).await, Ok(nodes) if nodes.is_empty())
            }
            (Ok(engine), resource) => removal::is_absent(&engine, resource).await,
            (Err(_), _) => false,
        },
    }
}

/// Removes every resource that this process has recorded. Returns what could not be removed.
pub async fn own(home: &Home) -> Vec<String> {
    of_this_process(home, |_| true).await
}

/// Removes the leftovers of images that this process was building when it was cancelled. Returns
/// what could not be removed.
pub async fn own_builds(home: &Home) -> Vec<String> {
    of_this_process(home, |entry| entry.environment.starts_with(BUILDS)).await
}

async fn of_this_process(home: &Home, is_due: impl Fn(&LedgerEntry) -> bool) -> Vec<String> {
    let ledger = Ledger::at(home.ledger());
    let own = ProcessIdentity::own();
    match ledger.open().await {
        Ok(mut open) => {
            open.entries
                .retain(|entry| entry.owner == own && is_due(entry));
            remove_all(&ledger, open.entries).await
        }
        Err(error) => vec![error.with_help()],
    }
}

/// Returns what could not be removed.
async fn remove_all(ledger: &Ledger, mut entries: Vec<LedgerEntry>) -> Vec<String> {
    if entries.is_empty() {
        return Vec::new();
    }
    // A process may still write into a directory.
    entries.sort_by_key(|entry| order(&entry.resource));
    let (mut removed_ids, mut failed) = (Vec::new(), Vec::new());
    for of_one_kind in entries.chunk_by(|one, other| order(&one.resource) == order(&other.resource))
    {
        // In parallel, so that the time-outs do not add up.
        let removed = of_one_kind.iter().map(remove);
        let removed = futures::future::join_all(removed).await;
        for (LedgerEntry { id, resource, .. }, removed) in of_one_kind.iter().zip(removed) {
            match removed {
                Ok(()) => removed_ids.push(id.clone()),
                Err(reason) => failed.push(format!("{resource}: {reason}")),
            }
        }
    }
    let forgotten = ledger.forget(&removed_ids).await;
    failed.extend(forgotten.err().map(|error| error.with_help()));
    failed
}

fn order(resource: &Resource) -> u8 {
    match resource {
        Resource::Process { .. } => 0,
        Resource::Container { .. } | Resource::Cluster { .. } => 1,
        // After everything that uses it.
        Resource::Network { .. } => 2,
        Resource::Directory { .. } => 3,
    }
}

async fn remove(entry: &LedgerEntry) -> Result<(), String> {
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
            removal::remove(&engine, resource).await
        }
    }
}

/// An engine continues with a request when its client has died. It takes no longer than this after
/// the record of the request.
const SETTLED: Duration = Duration::from_secs(10);

/// Waits until the resource exists, or the engine cannot be creating it any more.
async fn settled(engine: &Engine, entry: &LedgerEntry) {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let age = Timestamp::now().duration_since(entry.at);
    // The clock may have been set back.
    let age = Duration::try_from(age).unwrap_or_default();
    let created = wait::until(
        "the engine has created the resource",
        SETTLED.saturating_sub(age),
        LOOK_EVERY,
        async || match removal::is_absent(engine, &entry.resource).await {
            true => Observation::NotYet("it does not exist".into()),
            false => Observation::Ready(()),
        },
    );
    // Without it in that time, the request never reached the engine.
    let _ = created.await;
}

/// It received a signal when its owner died. A stopped process handles the signal once it resumes.
async fn end(process: &ProcessIdentity) -> Result<(), String> {
    process.signal(Signal::SIGCONT);
    if exited(process, Duration::from_secs(2)).await.is_ok() {
        return Ok(());
    }
    process.signal(Signal::SIGKILL);
    let killed = exited(process, Duration::from_secs(5)).await;
    killed.map_err(|error| error.to_string())
}

async fn exited(process: &ProcessIdentity, deadline: Duration) -> Result<(), WaitError> {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    wait::until(
        "the process has exited",
        deadline,
        LOOK_EVERY,
        async || match process.is_alive() {
            false => Observation::Ready(()),
            true => Observation::NotYet("alive".into()),
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use base::process::identity::Place;

    /// Records a directory whose owner is in another place.
    fn record(home: &Home, path: &Path, change: impl FnOnce(&mut Place)) {
        let mut owner = ProcessIdentity::own();
        change(owner.place.as_mut().unwrap());
        let entry = LedgerEntry {
            id: "elsewhere".into(),
            at: Timestamp::now(),
            environment: "theirs".into(),
            owner,
            resource: Resource::Directory { path: path.into() },
        };
        let mut line = serde_json::to_value(entry).unwrap();
        line["act"] = "made".into();
        fs::create_dir_all(home.state()).unwrap();
        fs::write(home.ledger(), format!("{line}\n")).unwrap();
    }

    async fn open(home: &Home) -> usize {
        let ledger = Ledger::at(home.ledger()).open().await;
        ledger.unwrap().entries.len()
    }

    #[tokio::test]
    async fn resources_of_an_owner_elsewhere_are_left_alone_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let directory = folder.path().join("theirs");
        fs::create_dir(&directory).unwrap();
        let another_namespace = |place: &mut Place| place.pid_namespace += 1;
        let another_boot = |place: &mut Place| place.boot = "another".into();
        let another_host = |place: &mut Place| {
            place.boot = "another".into();
            place.host = "laptop".into();
        };
        let changes: [(fn(&mut Place), _); 3] = [
            (another_namespace, "another PID namespace"),
            (another_boot, "before a restart of this host"),
            (another_host, "on host laptop"),
        ];
        for (change, expected) in changes {
            record(&home, &directory, change);
            let left = dead_owners(&home).await;
            assert_eq!(left.failed, [] as [String; 0]);
            let name = "theirs".parse().unwrap();
            let (of_theirs, of_others) = left.of(&name);
            assert_eq!(of_others, [] as [String; 0]);
            let [line] = &of_theirs[..] else {
                panic!("{of_theirs:?}");
            };
            assert!(line.contains(&directory.display().to_string()), "{line}");
            assert!(line.contains(expected), "{line}");
            assert!(directory.exists(), "{expected}");
            assert_eq!(open(&home).await, 1, "{expected}");
        }
    }

    #[tokio::test]
    async fn only_down_all_forgets_and_only_what_does_not_exist() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let directory = folder.path().join("theirs");
        fs::create_dir(&directory).unwrap();
        record(&home, &directory, |place| place.pid_namespace += 1);
        let undecided = dead_owners(&home).await.undecided;
        let undecided = forget_absent(&home, undecided).await.unwrap();
        assert_eq!((undecided.len(), open(&home).await), (1, 1));
        fs::remove_dir(&directory).unwrap();
        let undecided = dead_owners(&home).await.undecided;
        // A sweep keeps it.
        assert_eq!((undecided.len(), open(&home).await), (1, 1));
        let undecided = forget_absent(&home, undecided).await.unwrap();
        assert_eq!((undecided.len(), open(&home).await), (0, 0));
    }
}
