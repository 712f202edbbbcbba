//! Takes away what dead owners left.

use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;

use crate::bring_up::{containers, directory};
use crate::engine::Engine;
use crate::environment::{EnvironmentError, EnvironmentFolder, EnvironmentName};
use crate::home::Home;
use crate::images::BUILDS;
use crate::kind::{cluster, network};
use crate::ledger::{Entry, Ledger, LedgerError, Resource};
use crate::process::identity::{Life, ProcessIdentity};
use crate::wait::{self, Observation, WaitError};

/// What a sweep has not removed.
#[derive(Debug, Default)]
pub struct Left {
    /// What could not be removed, one line each.
    pub failed: Vec<String>,
    /// What was left alone.
    pub not_judged: Vec<NotJudged>,
}

/// Something that was left alone: nobody can tell from here whether its owner lives.
#[derive(Debug)]
pub struct NotJudged {
    /// The environment it belongs to, where that is known.
    pub environment: Option<String>,
    /// What the ledger has of it, where that is understood.
    pub entry: Option<Entry>,
    /// What it is and why it was left alone, in one line.
    pub line: String,
}

impl Left {
    /// Whether all is removed that was found.
    pub fn is_nothing(&self) -> bool {
        self.failed.is_empty() && self.not_judged.is_empty()
    }

    /// One line each.
    pub fn lines(self) -> impl Iterator<Item = String> {
        let not_judged = self.not_judged.into_iter().map(|it| it.line);
        self.failed.into_iter().chain(not_judged)
    }

    /// What could not be removed, and what was left alone of this environment; then what
    /// was left alone of others. One line each.
    pub fn of(self, environment: &EnvironmentName) -> (Vec<String>, Vec<String>) {
        let name = Some(environment.to_string());
        let (own, others): (Vec<_>, Vec<_>) = self
            .not_judged
            .into_iter()
            .partition(|it| it.environment == name);
        let line = |it: NotJudged| it.line;
        let own = self.failed.into_iter().chain(own.into_iter().map(line));
        (own.collect(), others.into_iter().map(line).collect())
    }
}

impl NotJudged {
    /// Why something with this owner was left alone.
    fn line(resource: &Resource, owner: &ProcessIdentity, why: &str) -> String {
        format!(
            "{resource}: left alone: it cannot be told whether {owner}, its owner, lives: {why}"
        )
    }

    fn recorded(entry: Entry, why: &str) -> Self {
        NotJudged {
            environment: Some(entry.environment.clone()),
            line: NotJudged::line(&entry.resource, &entry.owner, why),
            entry: Some(entry),
        }
    }

    fn not_understood(line: &str) -> Self {
        let environment = serde_json::from_str::<serde_json::Value>(line)
            .ok()
            .and_then(|line| Some(line.get("environment")?.as_str()?.to_owned()));
        NotJudged {
            environment,
            entry: None,
            line: format!("left alone: another version wrote it into the ledger: {line}"),
        }
    }
}

/// Removes every resource whose owner is dead. What belongs to an owner that cannot be
/// judged is left alone.
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
    left.not_judged
        .extend(lines.map(|line| NotJudged::not_understood(line)));
    let (mut due, mut owners) = (Vec::new(), Vec::new());
    for entry in open.entries {
        owners.push(entry.owner.clone());
        match ledger.owners().judge(&entry.owner, &entry.environment) {
            Life::Alive => {}
            Life::Dead => due.push(entry),
            Life::Unknown(why) => left.not_judged.push(NotJudged::recorded(entry, &why)),
        }
    }
    left.failed.extend(remove_all(&ledger, due).await);
    for name in EnvironmentFolder::all(home) {
        match EnvironmentFolder::of(home, &name).sweep().await {
            Ok(()) => {}
            Err(error @ EnvironmentError::NotJudged { .. }) => left.not_judged.push(NotJudged {
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

/// Forgets those that are not there any more: a person who asks for all has ended what
/// nobody here can judge. Returns the others.
pub async fn forget_absent(
    home: &Home,
    not_judged: Vec<NotJudged>,
) -> Result<Vec<NotJudged>, LedgerError> {
    let (mut absent, mut there) = (Vec::new(), Vec::new());
    for one in not_judged {
        match &one.entry {
            Some(entry) if is_gone(&entry.resource).await => absent.push(entry.id.clone()),
            _ => there.push(one),
        }
    }
    if !absent.is_empty() {
        Ledger::at(home.ledger()).forget(&absent).await?;
    }
    Ok(there)
}

/// Whether there is certainly no such thing.
async fn is_gone(resource: &Resource) -> bool {
    match resource {
        Resource::Directory { path } => matches!(path.try_exists(), Ok(false)),
        // No kernel but its own knows it, and that has ended it with its owner.
        Resource::Process { identity, .. } => identity.is_of_another_boot(),
        Resource::Container { engine, .. }
        | Resource::Cluster { engine, .. }
        | Resource::Network { engine, .. } => match (Engine::at(engine).await, resource) {
            (Ok(engine), Resource::Cluster { name, .. }) => {
                matches!(cluster::nodes(&engine, name).await, Ok(nodes) if nodes.is_empty())
            }
            (Ok(engine), resource) => is_absent(&engine, resource).await,
            (Err(_), _) => false,
        },
    }
}

/// Removes every resource that this process wrote down and still has. Returns what could
/// not be removed.
pub async fn own(home: &Home) -> Vec<String> {
    let ledger = Ledger::at(home.ledger());
    let own = ProcessIdentity::own();
    of_owner(&ledger, |entry| entry.owner == own).await
}

/// Removes what this process has left of images that it was building when it was canceled.
/// Returns what could not be removed.
pub async fn own_builds(home: &Home) -> Vec<String> {
    let ledger = Ledger::at(home.ledger());
    let own = ProcessIdentity::own();
    let is_ours = |entry: &Entry| entry.owner == own && entry.environment.starts_with(BUILDS);
    of_owner(&ledger, is_ours).await
}

async fn of_owner(ledger: &Ledger, is_due: impl Fn(&Entry) -> bool) -> Vec<String> {
    match ledger.open().await {
        Ok(mut open) => {
            open.entries.retain(is_due);
            remove_all(ledger, open.entries).await
        }
        Err(error) => vec![error.with_help()],
    }
}

/// Removes and forgets these. Returns what could not be removed.
async fn remove_all(ledger: &Ledger, mut entries: Vec<Entry>) -> Vec<String> {
    if entries.is_empty() {
        return Vec::new();
    }
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
    let forgotten = ledger.forget(&gone).await;
    left.extend(forgotten.err().map(|error| error.with_help()));
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::process::identity::Place;

    /// Has the ledger say that a directory is an owner's of another place.
    fn record(home: &Home, path: &Path, change: impl FnOnce(&mut Place)) {
        let mut owner = ProcessIdentity::own();
        change(owner.place.as_mut().unwrap());
        let entry = Entry {
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
        Ledger::at(home.ledger())
            .open()
            .await
            .unwrap()
            .entries
            .len()
    }

    #[tokio::test]
    async fn what_an_owner_elsewhere_has_is_left_alone_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let theirs = folder.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
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
        for (change, words) in changes {
            record(&home, &theirs, change);
            let left = dead_owners(&home).await;
            assert_eq!(left.failed, [] as [String; 0]);
            let name = "theirs".parse().unwrap();
            let (of_theirs, of_others) = left.of(&name);
            assert_eq!(of_others, [] as [String; 0]);
            let [line] = &of_theirs[..] else {
                panic!("{of_theirs:?}");
            };
            assert!(line.contains(&theirs.display().to_string()), "{line}");
            assert!(line.contains(words), "{line}");
            assert!(theirs.exists(), "{words}");
            assert_eq!(open(&home).await, 1, "{words}");
        }
    }

    #[tokio::test]
    async fn only_who_asks_for_all_has_it_forgotten_and_only_what_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let theirs = folder.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        record(&home, &theirs, |place| place.pid_namespace += 1);
        let there = dead_owners(&home).await.not_judged;
        let there = forget_absent(&home, there).await.unwrap();
        assert_eq!((there.len(), open(&home).await), (1, 1));
        fs::remove_dir(&theirs).unwrap();
        let left = dead_owners(&home).await.not_judged;
        assert_eq!((left.len(), open(&home).await), (1, 1), "a sweep keeps it");
        let left = forget_absent(&home, left).await.unwrap();
        assert_eq!((left.len(), open(&home).await), (0, 0));
    }
}
