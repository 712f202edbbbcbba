//! Repairs an environment on a cluster after its machine was suspended or its containers were
//! stopped. It creates nothing and deletes nothing.

use std::time::Duration;

use bollard::models::ContainerStateStatusEnum as Status;

use super::cluster::control_plane;
use super::health::{self, ClusterProblems};
use crate::environment::{ClusterPlace, Environment, EnvironmentFolder};
use base::home::Home;
use base::ledger::{Ledger, Resource};
use base::wait::{self, Observation};
use machine::containers::{refusal, with_timeout};
use machine::engine::Engine;
use machine::removal;

/// After a restart of its node, a cluster answers in half a minute, its pods in a minute.
const DEADLINE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_secs(1);

struct Container {
    engine: Engine,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContainerRemedy {
    Unpause,
    Start,
}

/// Starts the environment's stopped containers, and waits until it is healthy, 3 minutes at most.
/// `say` receives each step as it begins. Returns the remaining problems. It does not wait for an
/// unhealthy platform on a healthy cluster: a deployment repairs that.
pub async fn repair(
    home: &Home,
    environment: &Environment,
    place: &ClusterPlace,
    say: &dyn Fn(&str),
) -> ClusterProblems {
    let mut last = ClusterProblems::default();
    let mut was_down = false;
    let healthy = wait::until("it is healthy", DEADLINE, LOOK_EVERY, async || {
        match run_again(home, environment, say).await {
            Ok(started) => was_down |= started,
            Err(Unrepaired::Gone(what)) => {
                last = of_cluster(what.clone());
                return Observation::Failed(what);
            }
            Err(Unrepaired::Engine(reason)) => {
                last = of_cluster(reason);
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
    // The caller receives the last state.
    let _ = healthy.await;
    last
}

/// Reports the wait once.
fn not_yet(
    was_down: &mut bool,
    environment: &Environment,
    found: &ClusterProblems,
    say: &dyn Fn(&str),
) -> Observation<()> {
    let found = [&found.cluster[..], &found.platform[..]]
        .concat()
        .join("; ");
    if !std::mem::replace(was_down, true) {
        say(&format!(
            "{} is not healthy ({found}): waiting for it, {} s at most",
            environment.name,
            DEADLINE.as_secs()
        ));
    }
    Observation::NotYet(found)
}

enum Unrepaired {
    /// A resource does not exist any more.
    Gone(String),
    /// The engine's error.
    Engine(String),
}

/// Starts the stopped containers. Returns whether there were any.
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

/// The health of the cluster, and of the parts that the supervisor watches.
async fn look(home: &Home, environment: &Environment, place: &ClusterPlace) -> ClusterProblems {
    let mut found = health::check(environment, place).await;
    let name = &environment.name;
    match EnvironmentFolder::of(home, name).read(name) {
        Ok(now) => found.cluster.extend(now.lost),
        Err(error) => found.cluster.push(error.to_string()),
    }
    found
}

fn of_cluster(reason: String) -> ClusterProblems {
    ClusterProblems {
        cluster: vec![reason],
        ..ClusterProblems::default()
    }
}

/// The environment's containers in the ledger, with the cluster's nodes.
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
    engine.map_err(|error| Unrepaired::Engine(base::chain(&error)))
}

async fn nodes(engine: &Engine, cluster: &str) -> Result<Vec<String>, Unrepaired> {
    let names = removal::nodes(engine, cluster).await;
    let names = names.map_err(Unrepaired::Engine)?;
    let control_plane = control_plane(cluster);
    match names.contains(&control_plane) {
        true => Ok(names),
        false => Err(Unrepaired::Gone(format!(
            "{control_plane} no longer exists"
        ))),
    }
}

async fn send<T>(
    engine: &Engine,
    request: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, Unrepaired> {
    let answer = with_timeout(engine, request).await;
    let answer = answer.map_err(Unrepaired::Engine)?;
    answer.map_err(|error| Unrepaired::Engine(base::chain(&error)))
}

impl Container {
    /// Starts or unpauses it. Returns whether that was necessary.
    async fn run_again(&self, say: &dyn Fn(&str)) -> Result<bool, Unrepaired> {
        let (engine, name) = (&self.engine, &self.name);
        let inspect = async {
            match engine.client().inspect_container(name, None).await {
                Err(error) if refusal(&error) == Some(404) => Ok(None),
                inspected => inspected.map(Some),
            }
        };
        let Some(inspected) = send(engine, inspect).await? else {
            return Err(Unrepaired::Gone(format!(
                "the container {name} no longer exists"
            )));
        };
        let state = inspected.state;
        match remedy(state.and_then(|state| state.status)) {
            None => return Ok(false),
            Some(ContainerRemedy::Unpause) => {
                say(&format!("the container {name} is paused: unpausing it"));
                send(engine, engine.client().unpause_container(name)).await?;
            }
            Some(ContainerRemedy::Start) => {
                say(&format!("the container {name} is stopped: starting it"));
                send(engine, engine.client().start_container(name, None)).await?;
            }
        }
        Ok(true)
    }
}

/// `None` for a container that runs, is about to run, or cannot run again.
fn remedy(status: Option<Status>) -> Option<ContainerRemedy> {
    match status? {
        Status::PAUSED => Some(ContainerRemedy::Unpause),
        Status::EXITED | Status::CREATED => Some(ContainerRemedy::Start),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paused_and_stopped_containers_are_started() {
        assert_eq!(remedy(Some(Status::PAUSED)), Some(ContainerRemedy::Unpause));
        assert_eq!(remedy(Some(Status::EXITED)), Some(ContainerRemedy::Start));
        for status in [
            Status::RUNNING,
            Status::RESTARTING,
            Status::REMOVING,
            Status::DEAD,
        ] {
            assert_eq!(remedy(Some(status)), None);
        }
        assert_eq!(remedy(None), None);
    }
}
