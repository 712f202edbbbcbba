//! Postgres and Redis as containers, reachable on 127.0.0.1 only.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::PortBinding;
use bollard::query_parameters::{
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptions,
};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use testcontainers::core::logs::LogFrame;
use testcontainers::core::{ExecCommand, IntoContainerPort};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::owned::Lost;
use super::{Context, POSTGRES, REDIS, UpError};
use crate::engine::Engine;
use crate::home::Home;
use crate::images::redis;
use crate::ledger::Resource;
use crate::process::identity::ProcessIdentity;
use crate::run::event::Part;
use crate::wait::{self, Observation};

/// Says that a container is the harness's; its value is the environment's name.
pub const LABEL_ENVIRONMENT: &str = "trii.rehearsal.environment";
/// The owner, as `pid:start`: a [`crate::process::identity::ProcessIdentity`].
pub const LABEL_OWNER: &str = "trii.rehearsal.owner";
/// Where the owner's id counts, as JSON: a [`crate::process::identity::Place`].
pub const LABEL_PLACE: &str = "trii.rehearsal.owner-place";
/// The run that created it.
pub const LABEL_RUN: &str = "trii.rehearsal.run";

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A create, start or remove that takes longer is not going to happen.
pub const ENGINE_PATIENCE: Duration = Duration::from_secs(30);
/// A cluster's node has gigabytes of files, which a busy disk takes its time to forget.
pub const NODE_PATIENCE: Duration = Duration::from_secs(120);
/// An engine that is busy answers a ping all the same.
const PONG: Duration = Duration::from_secs(4);

/// Says which harness home a container belongs to.
pub const LABEL_HOME: &str = "trii.rehearsal.home";

/// The labels of ours that tell of an owner.
pub(crate) const LABELS: [&str; 5] = [
    LABEL_ENVIRONMENT,
    LABEL_OWNER,
    LABEL_PLACE,
    LABEL_RUN,
    LABEL_HOME,
];

/// What everything in the engine carries that this process makes.
pub(crate) fn labels(environment: &str, run: &str, home: &Home) -> [(String, String); 5] {
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

/// A container, from before it is created until it is removed.
pub struct OwnedContainer {
    /// The part it is.
    part: &'static str,
    name: String,
    /// Its entry in the ledger.
    pub(super) entry: String,
    log: PathBuf,
    engine: Engine,
    /// Where it listens, in the container.
    port: u16,
    /// Once it is started. Keeps its log coming.
    handle: Option<Handle>,
}

type Handle = Arc<ContainerAsync<GenericImage>>;

impl OwnedContainer {
    /// What it is, for messages.
    pub fn describe(&self) -> String {
        format!("container {}", self.name)
    }

    /// Whether this is the container of that name.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// It is started.
    pub fn started(&mut self, handle: Handle) {
        self.handle = Some(handle);
    }

    /// Removes it, if the engine has it.
    pub async fn remove(&self) -> Result<(), String> {
        remove(&self.engine, &self.name).await
    }
}

/// Removes a container and its anonymous volumes; one that is not there is removed.
pub async fn remove(engine: &Engine, name: &str) -> Result<(), String> {
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    let what = "the container is gone";
    let removed = wait::until(what, ENGINE_PATIENCE, LOOK_EVERY, async || {
        let removed = engine
            .client()
            .remove_container(name, Some(options.clone()));
        match removed.await {
            Ok(()) => Observation::Ready(()),
            Err(error) => match refusal(&error) {
                Some(404) => Observation::Ready(()),
                // Another removal is under way: it ends with 404.
                Some(409) => Observation::NotYet(crate::chain(&error)),
                _ => Observation::Hopeless(crate::chain(&error)),
            },
        }
    });
    let removed = with_patience(engine, removed).await?;
    removed.map_err(|error| error.to_string())
}

/// The status by which the engine refused.
pub(crate) fn refusal(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Waits for what the engine does, unless that takes too long or it falls silent. Says which.
pub(crate) async fn with_patience<T>(
    engine: &Engine,
    work: impl Future<Output = T>,
) -> Result<T, String> {
    within(ENGINE_PATIENCE, engine, work).await
}

/// The same, for what may take so long.
pub(crate) async fn within<T>(
    patience: Duration,
    engine: &Engine,
    work: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::select! {
        done = timeout(patience, work) => {
            done.map_err(|_| format!("not done within {patience:?}"))
        }
        () = silence(engine) => {
            Err(format!("it has stopped answering: no pong within {PONG:?}"))
        }
    }
}

/// Returns once the engine does not answer a ping. One that refuses has answered: what it
/// was asked fails by itself.
pub(crate) async fn silence(engine: &Engine) {
    const PING_EVERY: Duration = Duration::from_secs(1);
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if timeout(PONG, engine.client().ping()).await.is_err() {
            return;
        }
    }
}

/// Starts Postgres in a container of this image, on `network` where one is given.
pub async fn postgres(
    context: &Context<'_>,
    engine: &Engine,
    image: &str,
    network: Option<&str>,
) -> Result<Part, UpError> {
    let request = request(image, 5432, &context.log(POSTGRES), network)
        .with_env_var("POSTGRES_USER", "trii")
        .with_env_var("POSTGRES_DB", "postgres")
        // The data is thrown away with the run.
        .with_env_var("POSTGRES_INITDB_ARGS", "--no-sync")
        .with_env_var("POSTGRES_PASSWORD", &context.secrets.postgres_password);
    let (handle, part) = start(context, engine, POSTGRES, 5432, request).await?;
    // Over TCP: while it initialises itself, the image runs a server on the socket only.
    let asked = ["pg_isready", "--host=127.0.0.1", "--username=trii"];
    answers(context, engine, &handle, POSTGRES, async || {
        match handle.exec(ExecCommand::new(asked)).await {
            Ok(mut asking) => {
                // The exit code is known once the output has ended.
                let said = asking.stdout_to_vec().await.unwrap_or_default();
                match asking.exit_code().await {
                    Ok(Some(0)) => Ok(()),
                    _ => Err(String::from_utf8_lossy(&said).trim().to_owned()),
                }
            }
            Err(error) => Err(crate::chain(&error)),
        }
    })
    .await?;
    Ok(part)
}

/// Starts Redis in a container of this image, on `network` where one is given.
pub async fn redis(
    context: &Context<'_>,
    engine: &Engine,
    image: &str,
    network: Option<&str>,
) -> Result<Part, UpError> {
    let request = request(image, 6379, &context.log(REDIS), network)
        .with_cmd(redis::command())
        .with_user(redis::USER)
        .with_env_var(redis::PASSWORD_VARIABLE, &context.secrets.redis_password);
    let (handle, part) = start(context, engine, REDIS, 6379, request).await?;
    let address = part.address.clone();
    answers(context, engine, &handle, REDIS, async || {
        answers_ping(&address).await
    })
    .await?;
    Ok(part)
}

/// An image with its port published on 127.0.0.1 alone and its output in `log`.
fn request(
    image: &str,
    port: u16,
    log: &std::path::Path,
    network: Option<&str>,
) -> ContainerRequest<GenericImage> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    let loopback = PortBinding {
        host_ip: Some("127.0.0.1".into()),
        // The engine takes a free one.
        host_port: Some("0".into()),
    };
    let bindings = HashMap::from([(format!("{port}/tcp"), Some(vec![loopback]))]);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .ok()
        .map(Mutex::new);
    let request = GenericImage::new(name, tag)
        .with_exposed_port(port.tcp())
        .with_host_config_modifier(move |host| {
            host.publish_all_ports = Some(false);
            host.port_bindings = Some(bindings.clone());
        })
        .with_log_consumer(move |frame: &LogFrame| {
            if let Some(log) = &log {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                // A full disk must not take the database down with it.
                let _ = log.write_all(frame.bytes());
            }
        });
    match network {
        Some(network) => request.with_network(network),
        None => request,
    }
}

/// Creates and starts the container. The engine is never left alone in the middle of
/// that: a bring-up cut short leaves a task which [`super::Owned::release`] awaits.
async fn start(
    context: &Context<'_>,
    engine: &Engine,
    part: &'static str,
    port: u16,
    request: ContainerRequest<GenericImage>,
) -> Result<(Handle, Part), UpError> {
    let name = format!(
        "trii-{}-{part}-{:08x}",
        context.owned.environment(),
        rand::random::<u32>()
    );
    let request = request
        .with_container_name(&name)
        .with_labels(context.labels());
    let container = Resource::Container {
        name: name.clone(),
        engine: engine.host.clone(),
    };
    let entry = context.owned.record(container).await?;
    context.owned.adopt_container(OwnedContainer {
        part,
        name: name.clone(),
        entry,
        log: context.log(part),
        engine: engine.clone(),
        port,
        handle: None,
    });
    let request = {
        let engine = engine.clone();
        async move { with_patience(&engine, request.start()).await }
    };
    let starting = context.owned.start_container(name.clone(), request);
    let handle = starting.await.map_err(|reason| UpError::Engine {
        what: format!("start the container {name}"),
        reason,
    })?;
    let address = published(engine, &name, port).await?;
    Ok((
        handle,
        Part {
            name: part.to_owned(),
            runs_as: format!("container {name}"),
            address,
            metrics: None,
            log: Some(format!("{}/{part}.log", crate::run::LOGS)),
        },
    ))
}

/// Where the engine published the port: read back, since the engine chose it.
pub(crate) async fn published(engine: &Engine, name: &str, port: u16) -> Result<String, UpError> {
    let failed = |reason| UpError::Engine {
        what: format!("tell where {name} listens"),
        reason,
    };
    let inspected = engine.client().inspect_container(name, None);
    let inspected = with_patience(engine, inspected)
        .await
        .map_err(failed)?
        .map_err(|error| failed(crate::chain(&error)))?;
    inspected
        .network_settings
        .and_then(|network| network.ports?.remove(&format!("{port}/tcp"))?)
        .and_then(|bindings| bindings.into_iter().next()?.host_port)
        .map(|port| format!("127.0.0.1:{port}"))
        .ok_or_else(|| failed("it published no port".into()))
}

async fn answers(
    context: &Context<'_>,
    engine: &Engine,
    handle: &Handle,
    part: &str,
    ask: impl AsyncFn() -> Result<(), String>,
) -> Result<(), UpError> {
    let ready = wait::until(
        format!("{part} accepts connections"),
        context.deadlines.backing_services,
        LOOK_EVERY,
        async || match ask().await {
            Ok(()) => Observation::Ready(()),
            Err(reason) => match handle.is_running().await {
                Ok(false) => Observation::Hopeless("its container has ended".into()),
                _ => Observation::NotYet(reason),
            },
        },
    );
    let ready = tokio::select! {
        ready = ready => ready,
        () = silence(engine) => return Err(UpError::Engine {
            what: format!("tell how {part} is"),
            reason: format!("it has stopped answering: no pong within {PONG:?}"),
        }),
    };
    ready.map_err(|wait| UpError::Wait {
        part: part.to_owned(),
        log: Some(context.log(part)),
        wait,
    })
}

/// Whether a Redis that wants a password answers there: `-NOAUTH`, as it must to a
/// PING without one. Otherwise, what was seen.
pub async fn answers_ping(address: &str) -> Result<(), String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    match ask.await {
        Ok(answer) if answer.starts_with("-NOAUTH") => Ok(()),
        Ok(answer) => Err(format!("PING was answered {answer:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Notices containers that end, and that run again because somebody started them.
pub struct ContainerWatch(FuturesUnordered<BoxFuture<'static, (Watched, Change)>>);

/// What became of a container.
pub enum Change {
    /// It has ended although nobody asked it to.
    Lost(Lost),
    /// It runs again.
    Back {
        /// The part it is.
        part: String,
        /// Where it listens now: the engine publishes another port at each start.
        address: String,
    },
}

/// A container that is watched.
#[derive(Clone)]
struct Watched {
    engine: Engine,
    name: String,
    part: &'static str,
    port: u16,
    log: PathBuf,
    /// When its last life ended. Who started the first one follows its log.
    ended: Option<Timestamp>,
}

impl ContainerWatch {
    /// Watches those which are started.
    pub fn new(containers: &[OwnedContainer]) -> Self {
        let watched = containers.iter().map(|container| Watched {
            engine: container.engine.clone(),
            name: container.name.clone(),
            part: container.part,
            port: container.port,
            log: container.log.clone(),
            ended: None,
        });
        ContainerWatch(watched.map(Watched::end).collect())
    }

    /// The next that ends, or runs again. Never returns where there is none to watch. May be
    /// dropped and called again.
    pub async fn next_change(&mut self) -> Change {
        let Some((watched, change)) = self.0.next().await else {
            return std::future::pending().await;
        };
        self.0.push(match change {
            Change::Lost(_) => watched.start(),
            Change::Back { .. } => watched.end(),
        });
        change
    }
}

impl Watched {
    fn end(mut self) -> BoxFuture<'static, (Watched, Change)> {
        Box::pin(async move {
            let mut end = self
                .engine
                .client()
                .wait_container(&self.name, None::<WaitContainerOptions>);
            let ended = tokio::select! {
                ended = end.next() => ended,
                never = self.keep_log() => match never {},
            };
            let how = match ended {
                Some(Ok(ended)) => {
                    format!("its container ended with exit code {}", ended.status_code)
                }
                Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => {
                    format!("its container ended with exit code {code}")
                }
                Some(Err(error)) => format!("the engine lost it: {}", crate::chain(&error)),
                None => "the engine says no more of it".into(),
            };
            drop(end);
            self.ended = Some(Timestamp::now());
            let lost = Lost {
                part: self.part.to_owned(),
                how,
                log: self.log.clone(),
            };
            (self, Change::Lost(lost))
        })
    }

    /// Adds what it says in a life after its first one to its log.
    async fn keep_log(&self) -> Infallible {
        let file = OpenOptions::new().append(true).open(&self.log);
        if let (Some(ended), Ok(file)) = (self.ended, file) {
            let mut file = tokio::fs::File::from_std(file);
            let options = LogsOptionsBuilder::new()
                .follow(true)
                .stdout(true)
                .stderr(true)
                .since(i32::try_from(ended.as_second()).unwrap_or(i32::MAX))
                .build();
            let mut said = self.engine.client().logs(&self.name, Some(options));
            while let Some(Ok(said)) = said.next().await {
                // A full disk must not take the environment down with it.
                let _ = file.write_all(&said.into_bytes()).await;
                let _ = file.flush().await;
            }
        }
        std::future::pending().await
    }

    /// Polled, for as long as the environment stays: an engine that is started again tells
    /// nobody who watched it before.
    fn start(self) -> BoxFuture<'static, (Watched, Change)> {
        const LOOK_EVERY: Duration = Duration::from_secs(1);
        Box::pin(async move {
            let address = loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Ok(address) = published(&self.engine, &self.name, self.port).await {
                    break address;
                }
            };
            let back = Change::Back {
                part: self.part.to_owned(),
                address,
            };
            (self, back)
        })
    }
}
