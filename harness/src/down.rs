//! Ends environments that are up, and removes what dead ones left.

use std::collections::HashMap;
use std::time::Duration;

use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};
use nix::sys::signal::Signal;

use crate::bring_up::{containers, teardown_at_most};
use crate::engine::{self, Engine};
use crate::environment::{EnvironmentFolder, EnvironmentName, Holder};
use crate::home::Home;
use crate::ledger::Resource;
use crate::owner::Owners;
use crate::process::identity::{Life, ProcessIdentity};
use crate::sweep;
use crate::wait::{self, Observation, WaitError};

/// What was ended, and what could not be.
#[derive(Debug, Default)]
pub struct Down {
    /// Environments that were up.
    pub ended: Vec<EnvironmentName>,
    /// One line each.
    pub left: Vec<String>,
    /// What was left alone of other environments than those that were to be ended: nobody
    /// can tell from here whether its owner lives. One line each.
    pub left_alone: Vec<String>,
}

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ends the environment of this name, if it is up (and of `target`, if one is named), and
/// sweeps up after dead ones.
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

/// Ends every environment of this home (and of `target`, if one is named), and removes all
/// that dead ones left, containers that the ledger has lost included. What cannot be judged
/// is left; what of it is not there any more is forgotten.
pub async fn all(home: &Home, target: Option<&str>) -> Down {
    let mut down = Down::default();
    for name in EnvironmentFolder::all(home) {
        if is_of(home, &name, target) {
            end(home, &name, &mut down).await;
        }
    }
    let mut swept = sweep::dead_owners(home).await;
    match sweep::forget_absent(home, swept.not_judged).await {
        Ok(there) => swept.not_judged = there,
        Err(error) => {
            down.left.push(error.with_help());
            swept.not_judged = Vec::new();
        }
    }
    let named: Vec<Resource> = swept
        .not_judged
        .iter()
        .filter_map(|it| Some(it.entry.as_ref()?.resource.clone()))
        .collect();
    down.left.extend(swept.lines());
    down.left.extend(unrecorded(home, &named).await);
    down
}

/// One that is not up yet says of no target that it is its own.
fn is_of(home: &Home, name: &EnvironmentName, target: Option<&str>) -> bool {
    let up = EnvironmentFolder::of(home, name).read(name);
    target.is_none_or(|target| up.is_ok_and(|environment| environment.target == target))
}

async fn end(home: &Home, name: &EnvironmentName, down: &mut Down) {
    let folder = EnvironmentFolder::of(home, name);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        match asked_to_end(&folder, signal).await {
            Ok(true) => return down.ended.push(name.clone()),
            Ok(false) => return,
            Err(WaitError::Hopeless { reason, .. }) => {
                return down.left.push(format!("environment {name}: {reason}"));
            }
            Err(WaitError::TimedOut { .. }) => {}
        }
    }
    down.left
        .push(format!("environment {name}: its supervisor does not end"));
}

/// Waits until whoever holds the name, and was sent `signal`, has ended. False: nobody did.
/// Hopeless where it runs in another place: its id means nothing here.
async fn asked_to_end(folder: &EnvironmentFolder, signal: Signal) -> Result<bool, WaitError> {
    let mut asked: Option<ProcessIdentity> = None;
    let stop = folder.holder().map_or(Duration::ZERO, |holder| holder.stop);
    wait::until(
        "the supervisor ends",
        teardown_at_most(stop),
        LOOK_EVERY,
        async || match (folder.is_held(), folder.holder(), asked.clone()) {
            (false, ..) => Observation::Ready(asked.is_some()),
            // Its successor was not there when `down` was typed.
            (true, Some(now), Some(then)) if now.supervisor != then => Observation::Ready(true),
            (
                true,
                Some(Holder {
                    supervisor, run, ..
                }),
                None,
            ) => {
                if let Life::Unknown(why) = supervisor.life() {
                    let reason = format!(
                        "{supervisor} of run {run} holds it, and cannot be ended from here: {why}; \
                         end it where it runs"
                    );
                    return Observation::Hopeless(reason);
                }
                let seen = format!("{supervisor} holds the name");
                if supervisor.signal(signal) {
                    // One that is stopped would not hear.
                    supervisor.signal(Signal::SIGCONT);
                    asked = Some(supervisor);
                }
                Observation::NotYet(seen)
            }
            // It has not signed yet, or it is at it.
            (true, ..) => Observation::NotYet("the name is held".into()),
        },
    )
    .await
}

/// Containers and networks that carry this home's label and whose owner is dead. A network
/// takes along what is on it: a cluster's nodes carry no label of ours. What is `named`
/// already is not named again.
async fn unrecorded(home: &Home, named: &[Resource]) -> Vec<String> {
    let Ok(engine) = Engine::find(engine::PATIENCE).await else {
        // Where none answers now, the ledger knows whether there was ever one.
        return Vec::new();
    };
    let label = format!("{}={}", containers::LABEL_HOME, home.root().display());
    let found = match labelled(&engine, label).await {
        Ok(found) => found,
        Err(error) => return vec![format!("the engine: {}", crate::chain(&error))],
    };
    let owners = Owners::of(&home.state());
    let mut left = Vec::new();
    for (resource, labels) in found {
        if named.contains(&resource) {
            continue;
        }
        match judged(&owners, &labels) {
            Ok(Life::Alive) => {}
            Ok(Life::Dead) => {
                let removed = sweep::remove_from(&engine, &resource).await;
                left.extend(removed.err().map(|why| format!("{resource}: {why}")));
            }
            Ok(Life::Unknown(why)) | Err(why) => {
                left.push(format!("{resource}: left alone: {why}"));
            }
        }
    }
    left
}

/// Whether the owner that the labels name lives. The home is known by its path alone, which
/// another container of the same engine may have, too: without the owner's place nothing
/// but its life is certain.
fn judged(owners: &Owners, labels: &HashMap<String, String>) -> Result<Life, String> {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    let owner = owner_of(
        label(containers::LABEL_OWNER),
        label(containers::LABEL_PLACE),
    )
    .ok_or("its labels do not name its owner")?;
    Ok(match (owner.life(), &owner.place) {
        (life, None) => life,
        _ => owners.judge(&owner, label(containers::LABEL_ENVIRONMENT)),
    })
}

/// Containers, then networks, and their labels.
async fn labelled(
    engine: &Engine,
    label: String,
) -> Result<Vec<(Resource, HashMap<String, String>)>, bollard::errors::Error> {
    let host = || engine.host.clone();
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    let containers = engine.client().list_containers(Some(options)).await?;
    let containers = containers.into_iter().filter_map(|container| {
        let resource = Resource::Container {
            name: container.names?.first()?.trim_start_matches('/').to_owned(),
            engine: host(),
        };
        Some((resource, container.labels.unwrap_or_default()))
    });
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
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

/// As [`containers::LABEL_OWNER`] and [`containers::LABEL_PLACE`] have it.
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
    fn what_another_container_labelled_is_not_taken_for_dead() {
        let folder = tempfile::tempdir().unwrap();
        let owners = Owners::of(folder.path());
        let own = ProcessIdentity::own();
        assert_eq!(judged(&owners, &labels(&own)), Ok(Life::Alive));
        let gone = ProcessIdentity::not_started(own.pid);
        assert_eq!(judged(&owners, &labels(&gone)), Ok(Life::Dead));
        let mut elsewhere = own.clone();
        elsewhere.place.as_mut().unwrap().pid_namespace += 1;
        let life = judged(&owners, &labels(&elsewhere)).unwrap();
        assert!(matches!(life, Life::Unknown(_)), "{life:?}");
        // Of an earlier version.
        let mut old = labels(&gone);
        old.remove(containers::LABEL_PLACE);
        let life = judged(&owners, &old).unwrap();
        assert!(matches!(life, Life::Unknown(_)), "{life:?}");
        judged(&owners, &HashMap::new()).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_in_another_pid_namespace_is_named_at_once_and_not_signalled() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let name: EnvironmentName = "mine".parse().unwrap();
        let environment = EnvironmentFolder::of(&home, &name);
        let taken = environment.take(&name, "run-1", Duration::ZERO).await;
        let _lock = taken.unwrap();
        // As if the one that holds it were in another.
        environment.sign_as(|supervisor| {
            supervisor.place.as_mut().unwrap().pid_namespace += 1;
        });
        let begun = tokio::time::Instant::now();
        let down = one(&home, &name, None).await;
        // Not the deadline of a teardown.
        assert!(begun.elapsed() < Duration::from_secs(3));
        let [left] = &down.left[..] else {
            panic!("{:?}", down.left);
        };
        assert!(left.contains("another PID namespace"), "{left}");
        assert!(left.contains("run-1"), "{left}");
        assert!(environment.path().exists(), "its files are left alone");
    }

    /// Ended when dropped, stopped or not.
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
        use crate::file_lock;
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
        let mut signature = serde_json::to_value(file_lock::Holder::of(&lock)).unwrap();
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
