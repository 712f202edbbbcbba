//! Containers of the engine: their labels, how long the engine may take, and their removal.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use tokio::time::timeout;

use crate::engine::Engine;
use base::home::Home;
use base::process::identity::ProcessIdentity;
use base::wait::{self, Observation};

/// kind's label on each node container; its value is the cluster's name.
pub const LABEL_KIND_CLUSTER: &str = "io.x-k8s.kind.cluster";
/// Marks a container as the harness's; its value is the environment's name.
pub const LABEL_ENVIRONMENT: &str = "trii.rehearsal.environment";
/// The owner, as `pid:start`: a [`base::process::identity::ProcessIdentity`].
pub const LABEL_OWNER: &str = "trii.rehearsal.owner";
/// Where the owner's process id is valid, as JSON: a [`base::process::identity::Place`].
pub const LABEL_PLACE: &str = "trii.rehearsal.owner-place";
/// The run that created it.
pub const LABEL_RUN: &str = "trii.rehearsal.run";
/// The harness home that a container belongs to.
pub const LABEL_HOME: &str = "trii.rehearsal.home";

/// The harness's labels that describe an owner.
pub const LABELS: [&str; 5] = [
    LABEL_ENVIRONMENT,
    LABEL_OWNER,
    LABEL_PLACE,
    LABEL_RUN,
    LABEL_HOME,
];

/// Returns the labels of every resource that this process creates in the engine.
pub fn labels(environment: &str, run: &str, home: &Home) -> [(String, String); 5] {
    let owner = ProcessIdentity::own();
    let labels = [
        (LABEL_ENVIRONMENT, environment.to_owned()),
        (LABEL_OWNER, format!("{}:{}", owner.pid, owner.started)),
        (LABEL_PLACE, serde_json::json!(owner.place).to_string()),
        (LABEL_RUN, run.to_owned()),
        (LABEL_HOME, home.root().display().to_string()),
    ];
    labels.map(|(name, value)| (name.to_owned(), value))
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The longest time for a create, start or remove.
pub const ENGINE_TIMEOUT: Duration = Duration::from_secs(30);
/// A cluster's node has gigabytes of files, which a busy disk deletes slowly.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(120);
/// The timeout of a ping. A busy engine answers in time, too.
pub const PONG: Duration = Duration::from_secs(4);

/// Returns the containers that match a filter of the engine, such as `label` with `name=value`:
/// those that run, or `all`.
///
/// # Errors
/// The engine's error.
pub async fn matching(
    engine: &Engine,
    (filter, value): (&str, &str),
    all: bool,
) -> Result<Vec<ContainerSummary>, bollard::errors::Error> {
    let options = ListContainersOptionsBuilder::new()
        .all(all)
        .filters(&HashMap::from([(filter, vec![value])]))
        .build();
    engine.client().list_containers(Some(options)).await
}

/// Returns the container's name without its leading slash.
pub fn name_of(container: &ContainerSummary) -> Option<String> {
    let name = container.names.as_ref()?.first()?;
    Some(name.trim_start_matches('/').to_owned())
}

/// Removes a container and its anonymous volumes. A container that does not exist counts as
/// removed.
pub async fn remove(engine: &Engine, name: &str) -> Result<(), String> {
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    let what = "the container no longer exists";
    let removed = wait::until(what, ENGINE_TIMEOUT, LOOK_EVERY, async || {
        let removed = engine
            .client()
            .remove_container(name, Some(options.clone()));
        match removed.await {
            Ok(()) => Observation::Ready(()),
            Err(error) => match refusal(&error) {
                Some(404) => Observation::Ready(()),
                // Another removal is running. After it, the engine returns 404.
                Some(409) => Observation::NotYet(base::chain(&error)),
                _ => Observation::Failed(base::chain(&error)),
            },
        }
    });
    let removed = with_timeout(engine, removed).await?;
    removed.map_err(|error| error.to_string())
}

/// Returns the HTTP status of the engine's error, if it has one.
pub fn refusal(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Waits for `work` of the engine, at most [`ENGINE_TIMEOUT`].
pub async fn with_timeout<T>(engine: &Engine, work: impl Future<Output = T>) -> Result<T, String> {
    within(ENGINE_TIMEOUT, engine, work).await
}

/// Waits for `work` of the engine, at most `limit`. The error says whether the limit passed or the
/// engine stopped answering.
pub async fn within<T>(
    limit: Duration,
    engine: &Engine,
    work: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::select! {
        done = timeout(limit, work) => {
            done.map_err(|_| format!("not done within {limit:?}"))
        }
        () = silence(engine) => {
            Err(format!("it has stopped answering: no pong within {PONG:?}"))
        }
    }
}

/// Returns once the engine does not answer a ping in time. An error is an answer, too.
pub async fn silence(engine: &Engine) {
    const PING_EVERY: Duration = Duration::from_secs(1);
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if timeout(PONG, engine.client().ping()).await.is_err() {
            return;
        }
    }
}

/// Returns whether the container runs.
///
/// # Errors
/// A message, if the engine does not describe it.
pub async fn is_running(engine: &Engine, name: &str) -> Result<bool, String> {
    let inspected = with_timeout(engine, engine.client().inspect_container(name, None)).await?;
    let inspected = inspected.map_err(|error| base::chain(&error))?;
    Ok(inspected
        .state
        .and_then(|it| it.running)
        .unwrap_or_default())
}

/// Requests the container to stop, and lets the engine kill it after `grace`, in whole seconds. The
/// caller removes it anyway, so an error does not matter.
pub async fn stop(engine: &Engine, name: &str, grace: Duration) {
    let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
    let options = StopContainerOptionsBuilder::new().t(seconds).build();
    let stopped = engine.client().stop_container(name, Some(options));
    let _ = within(grace + PONG, engine, stopped).await;
}

/// Returns the address on which the engine published the port. The engine chooses the port.
///
/// # Errors
/// A message, if the engine reports no such port.
pub async fn published(engine: &Engine, name: &str, port: u16) -> Result<String, String> {
    let inspected = engine.client().inspect_container(name, None);
    let inspected = with_timeout(engine, inspected).await?;
    let inspected = inspected.map_err(|error| base::chain(&error))?;
    inspected
        .network_settings
        .and_then(|network| network.ports?.remove(&format!("{port}/tcp"))?)
        .and_then(|bindings| bindings.into_iter().next()?.host_port)
        .map(|port| format!("127.0.0.1:{port}"))
        .ok_or_else(|| "it published no port".into())
}
