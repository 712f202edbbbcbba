//! Ends environments that are up, and removes what dead ones left.

use std::collections::HashMap;
use std::time::Duration;

use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};
use nix::sys::signal::Signal;

use crate::bring_up::{containers, teardown_at_most};
use crate::engine::{self, Engine};
use crate::environment::{EnvironmentFolder, EnvironmentName};
use crate::home::Home;
use crate::ledger::Resource;
use crate::process::identity::ProcessIdentity;
use crate::sweep;
use crate::wait::{self, Observation, WaitError};

/// What was ended, and what could not be.
#[derive(Debug, Default)]
pub struct Down {
    /// Environments that were up.
    pub ended: Vec<EnvironmentName>,
    /// One line each.
    pub left: Vec<String>,
}

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ends the environment of this name, if it is up (and of `target`, if one is named), and
/// sweeps up after dead ones.
pub async fn one(home: &Home, name: &EnvironmentName, target: Option<&str>) -> Down {
    let mut down = Down::default();
    if is_of(home, name, target) {
        end(home, name, &mut down).await;
    }
    down.left.extend(sweep::dead_owners(home).await);
    down
}

/// Ends every environment of this home (and of `target`, if one is named), and removes all that dead ones left, containers
/// that the ledger has lost included.
pub async fn all(home: &Home, target: Option<&str>) -> Down {
    let mut down = Down::default();
    for name in EnvironmentFolder::all(home) {
        if is_of(home, &name, target) {
            end(home, &name, &mut down).await;
        }
    }
    down.left.extend(sweep::dead_owners(home).await);
    down.left.extend(unrecorded(home).await);
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
            Err(_) => {}
        }
    }
    down.left
        .push(format!("environment {name}: its supervisor does not end"));
}

/// Waits until whoever holds the name, and was sent `signal`, has ended. False: nobody did.
async fn asked_to_end(folder: &EnvironmentFolder, signal: Signal) -> Result<bool, WaitError> {
    let mut asked: Option<ProcessIdentity> = None;
    let stop = folder.holder().map_or(Duration::ZERO, |holder| holder.stop);
    wait::until(
        "the supervisor ends",
        teardown_at_most(stop),
        LOOK_EVERY,
        async || match (folder.is_held(), folder.holder(), asked) {
            (false, ..) => Observation::Ready(asked.is_some()),
            // Its successor was not there when `down` was typed.
            (true, Some(now), Some(then)) if now.supervisor != then => Observation::Ready(true),
            (true, Some(holder), None) => {
                if holder.supervisor.signal(signal) {
                    // One that is stopped would not hear.
                    holder.supervisor.signal(Signal::SIGCONT);
                    asked = Some(holder.supervisor);
                }
                Observation::NotYet(format!("{} holds the name", holder.supervisor))
            }
            // It has not signed yet, or it is at it.
            (true, ..) => Observation::NotYet("the name is held".into()),
        },
    )
    .await
}

/// Containers and networks that carry this home's label and whose owner is dead. A network
/// takes along what is on it: a cluster's nodes carry no label of ours.
async fn unrecorded(home: &Home) -> Vec<String> {
    let Ok(engine) = Engine::find(engine::PATIENCE).await else {
        // Where none answers now, the ledger knows whether there was ever one.
        return Vec::new();
    };
    let label = format!("{}={}", containers::LABEL_HOME, home.root().display());
    let found = match labelled(&engine, label).await {
        Ok(found) => found,
        Err(error) => return vec![format!("the engine: {}", crate::chain(&error))],
    };
    let mut left = Vec::new();
    for (resource, labels) in found {
        let owner = labels.get(containers::LABEL_OWNER);
        let owner = owner.and_then(|text| owner_of(text));
        if owner.is_some_and(|owner| owner.is_alive()) {
            continue;
        }
        if let Err(reason) = sweep::remove_from(&engine, &resource).await {
            left.push(format!("{resource}: {reason}"));
        }
    }
    left
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
            name: container.id?,
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

/// As [`containers::LABEL_OWNER`] has it: `pid:start`.
fn owner_of(label: &str) -> Option<ProcessIdentity> {
    let (pid, started) = label.split_once(':')?;
    Some(ProcessIdentity {
        pid: pid.parse().ok()?,
        started: started.parse().ok()?,
    })
}
