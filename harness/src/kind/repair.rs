//! Gets an environment that stays on a cluster to answer again, when its machine was asleep
//! or its containers were stopped. Nothing is made and nothing is removed.

use std::time::Duration;

use bollard::models::ContainerStateStatusEnum as Status;

use super::cluster::{self, control_plane};
use super::health::{self, Trouble};
use crate::bring_up::containers::{refusal, with_patience};
use crate::engine::Engine;
use crate::environment::{ClusterPlace, Environment, EnvironmentFolder};
use crate::home::Home;
use crate::ledger::{Ledger, Resource};
use crate::wait::{self, Observation};

/// A cluster whose node was started again answers after half a minute, its pods after one.
const DEADLINE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One container of the environment.
struct Container {
    engine: Engine,
    name: String,
}

/// What gets a container to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Unpause,
    Start,
}

/// Looks at the environment. One whose containers are stopped has them started, one that does
/// not answer is waited for, 3 minutes at most; `say` is told each step as it begins.
/// Returns what is wrong then. A platform that is unwell on a cluster that is well is not
/// waited for: deploying it again mends it.
pub async fn repair(
    home: &Home,
    environment: &Environment,
    place: &ClusterPlace,
    say: &dyn Fn(&str),
) -> Trouble {
    let mut last = Trouble::default();
    let mut was_down = false;
    let well = wait::until("it is well", DEADLINE, LOOK_EVERY, async || {
        match run_again(home, environment, say).await {
            Ok(started) => was_down |= started,
            Err(Unrepaired::Gone(what)) => {
                last = past_help(what.clone());
                return Observation::Hopeless(what);
            }
            Err(Unrepaired::Engine(reason)) => {
                last = past_help(reason);
                return not_yet(&mut was_down, environment, &last, say);
            }
        }
        last = look(home, environment, place).await;
        let waits_for_pods = was_down && !last.platform.is_empty();
        match last.cluster.is_empty() && !waits_for_pods {
            true => Observation::Ready(()),
            false => not_yet(&mut was_down, environment, &last, say),
        }
    });
    // What was seen last is for whoever uses the environment.
    let _ = well.await;
    last
}

/// Says once that it is waited for.
fn not_yet(
    was_down: &mut bool,
    environment: &Environment,
    seen: &Trouble,
    say: &dyn Fn(&str),
) -> Observation<()> {
    let seen = [&seen.cluster[..], &seen.platform[..]].concat().join("; ");
    if !std::mem::replace(was_down, true) {
        say(&format!(
            "{} is not well ({seen}): waiting for it, {} s at most",
            environment.name,
            DEADLINE.as_secs()
        ));
    }
    Observation::NotYet(seen)
}

/// Why a container does not run again.
enum Unrepaired {
    /// There is none any more: what.
    Gone(String),
    /// The engine did not do it: its word.
    Engine(String),
}

/// Starts what is stopped; says whether anything was.
async fn run_again(
    home: &Home,
    environment: &Environment,
    say: &dyn Fn(&str),
) -> Result<bool, Unrepaired> {
    let mut started = false;
    for container in containers(home, environment).await? {
        started |= container.run_again(say).await?;
    }
    Ok(started)
}

/// How the cluster is, and the parts beside it as the environment's supervisor sees them.
async fn look(home: &Home, environment: &Environment, place: &ClusterPlace) -> Trouble {
    let mut found = health::look(environment, place).await;
    let name = &environment.name;
    match EnvironmentFolder::of(home, name).read(name) {
        Ok(now) => found.cluster.extend(now.lost),
        Err(error) => found.cluster.push(error.to_string()),
    }
    found
}

fn past_help(reason: String) -> Trouble {
    Trouble {
        cluster: vec![reason],
        platform: Vec::new(),
    }
}

/// Those of the environment that the ledger knows of, a cluster's nodes among them.
async fn containers(home: &Home, environment: &Environment) -> Result<Vec<Container>, Unrepaired> {
    let open = Ledger::at(home.ledger()).open().await;
    let entries = open
        .map_err(|error| Unrepaired::Engine(error.with_help()))?
        .entries;
    let mut containers = Vec::new();
    let name = environment.name.to_string();
    for entry in entries.into_iter().filter(|it| it.environment == name) {
        let (engine, names) = match entry.resource {
            Resource::Container { name, engine } => (at(&engine).await?, vec![name]),
            Resource::Cluster { name, engine } => {
                let engine = at(&engine).await?;
                let nodes = nodes(&engine, &name).await?;
                (engine, nodes)
            }
            Resource::Directory { .. } | Resource::Process { .. } | Resource::Network { .. } => {
                continue;
            }
        };
        containers.extend(names.into_iter().map(|name| Container {
            engine: engine.clone(),
            name,
        }));
    }
    Ok(containers)
}

async fn at(engine: &str) -> Result<Engine, Unrepaired> {
    let engine = Engine::at(engine).await;
    engine.map_err(|error| Unrepaired::Engine(crate::chain(&error)))
}

async fn nodes(engine: &Engine, cluster: &str) -> Result<Vec<String>, Unrepaired> {
    let names = cluster::nodes(engine, cluster).await;
    let names = names.map_err(Unrepaired::Engine)?;
    let control_plane = control_plane(cluster);
    match names.contains(&control_plane) {
        true => Ok(names),
        false => Err(Unrepaired::Gone(format!("{control_plane} is gone"))),
    }
}

async fn asked<T>(
    engine: &Engine,
    request: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, Unrepaired> {
    let answer = with_patience(engine, request).await;
    let answer = answer.map_err(Unrepaired::Engine)?;
    answer.map_err(|error| Unrepaired::Engine(crate::chain(&error)))
}

impl Container {
    /// Does what gets it to run, where it does not; says whether that was needed.
    async fn run_again(&self, say: &dyn Fn(&str)) -> Result<bool, Unrepaired> {
        let (engine, name) = (&self.engine, &self.name);
        let inspect = async {
            match engine.client().inspect_container(name, None).await {
                Err(error) if refusal(&error) == Some(404) => Ok(None),
                inspected => inspected.map(Some),
            }
        };
        let Some(inspected) = asked(engine, inspect).await? else {
            return Err(Unrepaired::Gone(format!("the container {name} is gone")));
        };
        let state = inspected.state;
        match remedy(state.and_then(|state| state.status)) {
            None => return Ok(false),
            Some(Remedy::Unpause) => {
                say(&format!("the container {name} is paused: unpausing it"));
                asked(engine, engine.client().unpause_container(name)).await?;
            }
            Some(Remedy::Start) => {
                say(&format!("the container {name} is stopped: starting it"));
                asked(engine, engine.client().start_container(name, None)).await?;
            }
        }
        Ok(true)
    }
}

/// None for what runs, is about to, or can never again.
fn remedy(status: Option<Status>) -> Option<Remedy> {
    match status? {
        Status::PAUSED => Some(Remedy::Unpause),
        Status::EXITED | Status::CREATED => Some(Remedy::Start),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_run_is_touched() {
        assert_eq!(remedy(Some(Status::PAUSED)), Some(Remedy::Unpause));
        assert_eq!(remedy(Some(Status::EXITED)), Some(Remedy::Start));
        for left_alone in [
            Status::RUNNING,
            Status::RESTARTING,
            Status::REMOVING,
            Status::DEAD,
        ] {
            assert_eq!(remedy(Some(left_alone)), None);
        }
        assert_eq!(remedy(None), None);
    }
}
