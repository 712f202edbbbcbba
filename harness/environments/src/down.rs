//! Tears down environments, and removes what dead ones left.

use std::collections::HashMap;
use std::time::Duration;

use bollard::query_parameters::ListNetworksOptionsBuilder;
use nix::sys::signal::Signal;

use crate::bring_up::teardown_at_most;
use crate::environment::{EnvironmentFolder, EnvironmentHolder, EnvironmentName};
use crate::sweep;
use base::home::Home;
use base::ledger::Resource;
use base::owner::Owners;
use base::process::identity::{Life, ProcessIdentity};
use base::wait::{self, Observation, WaitError};
use machine::containers;
use machine::engine::{self, Engine};
use machine::removal;

/// What was torn down, and what remains.
#[derive(Debug, Default)]
pub struct Down {
    /// Environments that were up.
    pub ended: Vec<EnvironmentName>,
    /// What could not be removed, one line each.
    pub left: Vec<String>,
    /// Resources of other environments whose owners may live, one line each.
    pub left_alone: Vec<String>,
}

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tears down the environment of this name, if it is up (and of `target`, if one is named), and
/// removes what dead ones left.
pub async fn one(home: &Home, name: &EnvironmentName, target: Option<&str>) -> Down {
    let mut down = Down::default();
    if is_of(home, name, target) {
        end(home, name, &mut down).await;
    }
    let (left, left_alone) = sweep::dead_owners(home).await.of(name);
    down.left.extend(left);
    down.left_alone = left_alone;
    down
}

/// Tears down every environment of this home (and of `target`, if one is named). Removes what dead
/// ones left, also containers that are missing in the ledger. A resource whose owner may live
/// stays. One that does not exist any more is removed from the ledger.
pub async fn all(home: &Home, target: Option<&str>) -> Down {
    let mut down = Down::default();
    for name in EnvironmentFolder::all(home) {
        if is_of(home, &name, target) {
            end(home, &name, &mut down).await;
        }
    }
    let mut swept = sweep::dead_owners(home).await;
    match sweep::forget_absent(home, swept.undecided).await {
        Ok(existing) => swept.undecided = existing,
        Err(error) => {
            down.left.push(error.with_help());
            swept.undecided = Vec::new();
        }
    }
    let named: Vec<Resource> = swept
        .undecided
        .iter()
        .filter_map(|it| Some(it.entry.as_ref()?.resource.clone()))
        .collect();
    down.left.extend(swept.lines());
    down.left.extend(unrecorded(home, &named).await);
    down
}

/// An environment that is not up yet has no target.
fn is_of(home: &Home, name: &EnvironmentName, target: Option<&str>) -> bool {
    let up = EnvironmentFolder::of(home, name).read(name);
    target.is_none_or(|target| up.is_ok_and(|environment| environment.target == target))
}

async fn end(home: &Home, name: &EnvironmentName, down: &mut Down) {
    let folder = EnvironmentFolder::of(home, name);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        match end_with(&folder, signal).await {
            Ok(true) => return down.ended.push(name.clone()),
            Ok(false) => return,
            Err(WaitError::Failed { reason, .. }) => {
                return down.left.push(format!("environment {name}: {reason}"));
            }
            Err(WaitError::TimedOut { .. }) => {}
        }
    }
    down.left
        .push(format!("environment {name}: its supervisor does not end"));
}

/// Sends the holder of the name a signal and waits until it exits. Returns false if there was none.
/// Fails if it runs in another PID namespace, where its id means another process.
async fn end_with(folder: &EnvironmentFolder, signal: Signal) -> Result<bool, WaitError> {
    let mut signalled: Option<ProcessIdentity> = None;
    let stop = folder.holder().map_or(Duration::ZERO, |holder| holder.stop);
    wait::until(
        "the supervisor ends",
        teardown_at_most(stop),
        LOOK_EVERY,
        async || match (folder.is_held(), folder.holder(), signalled.clone()) {
            (false, ..) => Observation::Ready(signalled.is_some()),
            // Its successor started after `down`.
            (true, Some(now), Some(then)) if now.supervisor != then => Observation::Ready(true),
            (
                true,
                Some(EnvironmentHolder {
                    supervisor, run, ..
                }),
                None,
            ) => {
                if let Life::Unknown(why) = supervisor.life() {
                    let reason = format!(
                        "{supervisor} of run {run} holds it, and cannot be ended from here: {why}; \
                         end it where it runs"
                    );
                    return Observation::Failed(reason);
                }
                let seen = format!("{supervisor} holds the name");
                if supervisor.signal(signal) {
                    // A stopped process handles the signal once it resumes.
                    supervisor.signal(Signal::SIGCONT);
                    signalled = Some(supervisor);
                }
                Observation::NotYet(seen)
            }
            // It has not signed yet, or is ending.
            (true, ..) => Observation::NotYet("the name is held".into()),
        },
    )
    .await
}

/// Removes containers and networks with this home's label and a dead owner, except `named`. A
/// network is removed with its containers: a cluster's nodes have no label of the harness.
async fn unrecorded(home: &Home, named: &[Resource]) -> Vec<String> {
    let Ok(engine) = Engine::find(engine::TIMEOUT).await else {
        // The ledger knows whether there was ever one.
        return Vec::new();
    };
    let label = format!("{}={}", containers::LABEL_HOME, home.root().display());
    let found = match labelled(&engine, &label).await {
        Ok(found) => found,
        Err(error) => return vec![format!("the engine: {}", base::chain(&error))],
    };
    let owners = Owners::of(&home.state());
    let mut left = Vec::new();
    for (resource, labels) in found {
        if named.contains(&resource) {
            continue;
        }
        match life_of(&owners, &labels) {
            Ok(Life::Alive) => {}
            Ok(Life::Dead) => {
                let removed = removal::remove(&engine, &resource).await;
                left.extend(removed.err().map(|why| format!("{resource}: {why}")));
            }
            Ok(Life::Unknown(why)) | Err(why) => {
                left.push(format!("{resource}: not deleted: {why}"));
            }
        }
    }
    left
}

/// Whether the owner in the labels lives. The labels name the home by its path, which another
/// container of the same engine may have, too. Without the owner's place, only a living process is
/// certain.
fn life_of(owners: &Owners, labels: &HashMap<String, String>) -> Result<Life, String> {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    let owner = owner_of(
        label(containers::LABEL_OWNER),
        label(containers::LABEL_PLACE),
    )
    .ok_or("its labels do not name its owner")?;
    Ok(match (owner.life(), &owner.place) {
        (life, None) => life,
        _ => owners.life_of(&owner, label(containers::LABEL_ENVIRONMENT)),
    })
}

/// Returns containers, then networks, with their labels.
async fn labelled(
    engine: &Engine,
    label: &str,
) -> Result<Vec<(Resource, HashMap<String, String>)>, bollard::errors::Error> {
    let host = || engine.host.clone();
    let containers = containers::matching(engine, ("label", label), true).await?;
    let containers = containers.into_iter().filter_map(|container| {
        let resource = Resource::Container {
            name: containers::name_of(&container)?,
            engine: host(),
        };
        Some((resource, container.labels.unwrap_or_default()))
    });
    let options = ListNetworksOptionsBuilder::new()
        .filters(&HashMap::from([("label", vec![label])]))
        .build();
    let networks = engine.client().list_networks(Some(options)).await?;
    let networks = networks.into_iter().filter_map(|network| {
        let resource = Resource::Network {
            name: network.name?,
            engine: host(),
        };
        Some((resource, network.labels.unwrap_or_default()))
    });
    Ok(containers.chain(networks).collect())
}

/// Parses [`containers::LABEL_OWNER`] and [`containers::LABEL_PLACE`].
fn owner_of(owner: &str, place: &str) -> Option<ProcessIdentity> {
    let (pid, started) = owner.split_once(':')?;
    Some(ProcessIdentity {
        pid: pid.parse().ok()?,
        started: started.parse().ok()?,
        place: serde_json::from_str(place).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(owner: &ProcessIdentity) -> HashMap<String, String> {
        let place = serde_json::json!(owner.place).to_string();
        let labels = [
            (containers::LABEL_ENVIRONMENT, "mine".to_owned()),
            (
                containers::LABEL_OWNER,
                format!("{}:{}", owner.pid, owner.started),
            ),
            (containers::LABEL_PLACE, place),
        ];
        labels.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Two dev containers with the same path for their homes, and one engine.
    #[test]
    fn an_owner_in_another_container_does_not_count_as_dead() {
        let folder = tempfile::tempdir().unwrap();
        let owners = Owners::of(folder.path());
        let own = ProcessIdentity::own();
        assert_eq!(life_of(&owners, &labels(&own)), Ok(Life::Alive));
        let dead = ProcessIdentity::not_started(own.pid);
        assert_eq!(life_of(&owners, &labels(&dead)), Ok(Life::Dead));
        let mut elsewhere = own.clone();
        elsewhere.place.as_mut().unwrap().pid_namespace += 1;
        let life = life_of(&owners, &labels(&elsewhere)).unwrap();
        assert!(matches!(life, Life::Unknown(_)), "{life:?}");
        // Of an earlier version.
        let mut old = labels(&dead);
        old.remove(containers::LABEL_PLACE);
        let life = life_of(&owners, &old).unwrap();
        assert!(matches!(life, Life::Unknown(_)), "{life:?}");
        life_of(&owners, &HashMap::new()).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_in_another_pid_namespace_is_named_immediately_and_not_signalled() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let name: EnvironmentName = "mine".parse().unwrap();
        let environment = EnvironmentFolder::of(&home, &name);
        let taken = environment.take(&name, "run-1", Duration::ZERO).await;
        let _lock = taken.unwrap();
        environment.sign_as(|supervisor| {
            supervisor.place.as_mut().unwrap().pid_namespace += 1;
        });
        let begun = tokio::time::Instant::now();
        let down = one(&home, &name, None).await;
        assert!(begun.elapsed() < Duration::from_secs(3));
        let [left] = &down.left[..] else {
            panic!("{:?}", down.left);
        };
        assert!(left.contains("another PID namespace"), "{left}");
        assert!(left.contains("run-1"), "{left}");
        assert!(environment.path().exists(), "its files are left alone");
    }

    /// Killed when dropped, also when it is stopped.
    struct Child(std::process::Child);

    impl Drop for Child {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn a_stopped_holder_of_the_ledgers_lock_is_named_and_down_does_not_hang() {
        use base::file_lock;
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let lock = home.ledger().with_extension("lock");
        drop(file_lock::try_lock(&lock).unwrap());
        let script = r#"exec 9<>"$0"; flock 9; kill -STOP $$"#;
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", script]).arg(&lock).spawn().unwrap();
        let shell = Child(shell);
        let holder = ProcessIdentity::of(shell.0.id()).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !holder.is_stopped() {
            assert!(std::time::Instant::now() < deadline, "it does not stop");
            std::thread::yield_now();
        }
        let mut signature = serde_json::to_value(file_lock::LockHolder::of(&lock)).unwrap();
        signature["pid"] = holder.pid.into();
        signature["started"] = holder.started.into();
        std::fs::write(&lock, signature.to_string()).unwrap();
        let down = one(&home, &"mine".parse().unwrap(), None).await;
        let [left] = &down.left[..] else {
            panic!("{:?}", down.left);
        };
        let named = format!("locked by process {}", holder.pid);
        assert!(left.contains(&named), "{left}");
        assert!(left.contains("which is stopped"), "{left}");
        assert!(left.contains("`kill -CONT"), "{left}");
    }
}
