//! Containers of an environment: Postgres and Redis, reachable on 127.0.0.1 only, and services.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::PortBinding;
use bollard::query_parameters::{LogsOptionsBuilder, WaitContainerOptions};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use testcontainers::core::logs::LogFrame;
use testcontainers::core::{ExecCommand, IntoContainerPort};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Context, Lost, POSTGRES, REDIS, UpError, is_backing};
use crate::config::PlatformPostgres;
use base::ledger::Resource;
use base::run::event::Part;
use base::wait::{self, Observation};
use machine::containers::{self, PONG, published, remove, silence, with_timeout};
use machine::engine::Engine;
use machine::images::redis;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A container, from before it is created until it is removed.
pub struct OwnedContainer {
    watched: Watched,
    /// Its entry in the ledger.
    pub(super) entry: String,
    /// Present once it is started. Follows its log.
    handle: Option<Handle>,
}

/// A container that was started.
pub(crate) type Handle = Arc<ContainerAsync<GenericImage>>;

impl OwnedContainer {
    /// Returns a description for messages.
    pub fn describe(&self) -> String {
        format!("container {}", self.watched.name)
    }

    /// Returns its engine.
    pub fn engine(&self) -> Engine {
        self.watched.engine.clone()
    }

    /// Returns whether this is the container of that name.
    pub fn is(&self, name: &str) -> bool {
        self.watched.name == name
    }

    /// Keeps the handle of the started container.
    pub fn started(&mut self, handle: Handle) {
        self.handle = Some(handle);
    }

    /// Lets a service end by itself. The data of a backing service is deleted anyway.
    pub async fn stop(&self, grace: Duration) {
        if !is_backing(&self.watched.part) {
            containers::stop(&self.watched.engine, &self.watched.name, grace).await;
        }
    }

    /// Removes it, if it exists.
    pub async fn remove(&self) -> Result<(), String> {
        remove(&self.watched.engine, &self.watched.name).await
    }
}

/// Starts Postgres in a container of this image, on `network` if one is given.
pub async fn postgres(
    context: &Context<'_>,
    engine: &Engine,
    needed: &PlatformPostgres,
    image: &str,
    network: Option<&str>,
) -> Result<Part, UpError> {
    let request = request(image, 5432, &context.log(POSTGRES), network)
        .with_env_var("POSTGRES_USER", &needed.user)
        .with_env_var("POSTGRES_DB", &needed.database)
        // The data is deleted with the run.
        .with_env_var("POSTGRES_INITDB_ARGS", "--no-sync")
        .with_env_var("POSTGRES_PASSWORD", &context.secrets.postgres_password);
    let (handle, part) = start(
        context,
        engine,
        POSTGRES,
        Listening::Published(5432),
        request,
    )
    .await?;
    // Over TCP: during its initialisation the image runs a server on the socket only.
    let user = format!("--username={}", needed.user);
    let command = ["pg_isready", "--host=127.0.0.1", &user];
    answers(context, engine, &handle, POSTGRES, async || {
        let executed = handle.exec(ExecCommand::new(command)).await;
        let mut executed = executed.map_err(|error| base::chain(&error))?;
        // The exit code is known once the output has ended.
        let output = executed.stdout_to_vec().await.unwrap_or_default();
        match executed.exit_code().await {
            Ok(Some(0)) => Ok(()),
            _ => Err(String::from_utf8_lossy(&output).trim().to_owned()),
        }
    })
    .await?;
    Ok(part)
}

/// Starts Redis in a container of this image, on `network` if one is given.
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
    let (handle, part) = start(context, engine, REDIS, Listening::Published(6379), request).await?;
    answers(context, engine, &handle, REDIS, async || {
        answers_ping(&part.address).await
    })
    .await?;
    Ok(part)
}

/// An image with its port published on 127.0.0.1 only, and its output in `log`.
fn request(
    image: &str,
    port: u16,
    log: &Path,
    network: Option<&str>,
) -> ContainerRequest<GenericImage> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    let loopback = PortBinding {
        host_ip: Some("127.0.0.1".into()),
        // The engine chooses a free port.
        host_port: Some("0".into()),
    };
    let bindings = HashMap::from([(format!("{port}/tcp"), Some(vec![loopback]))]);
    let request = GenericImage::new(name, tag)
        .with_exposed_port(port.tcp())
        .with_host_config_modifier(move |host| {
            host.publish_all_ports = Some(false);
            host.port_bindings = Some(bindings.clone());
        });
    let request = with_log(request, log);
    match network {
        Some(network) => request.with_network(network),
        None => request,
    }
}

/// An image on the network of this machine, with its output in `log`.
pub(crate) fn on_host_network(image: &str, log: &Path) -> ContainerRequest<GenericImage> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    let request = GenericImage::new(name, tag).with_host_config_modifier(|host| {
        host.publish_all_ports = Some(false);
        host.network_mode = Some("host".into());
    });
    with_log(request, log)
}

fn with_log(request: impl ImageExt<GenericImage>, log: &Path) -> ContainerRequest<GenericImage> {
    let log = OpenOptions::new().create(true).append(true).open(log);
    let log = log.ok().map(Mutex::new);
    request.with_log_consumer(move |frame: &LogFrame| {
        if let Some(log) = &log {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            // A full disk must not stop the container.
            let _ = log.write_all(frame.bytes());
        }
    })
}

/// Where a container listens on this machine.
#[derive(Clone)]
pub(crate) enum Listening {
    /// The engine publishes this port of the container on 127.0.0.1, at each start another.
    Published(u16),
    /// It shares the network of this machine, and listens on this address.
    OnHost(SocketAddr),
}

/// Creates and starts the container. After a cancelled bring-up, [`super::Owned::release`] waits
/// for the request.
pub(crate) async fn start(
    context: &Context<'_>,
    engine: &Engine,
    part: &str,
    listening: Listening,
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
    let watched = Watched {
        engine: engine.clone(),
        name: name.clone(),
        part: part.to_owned(),
        listening: listening.clone(),
        log: context.log(part),
        ended: None,
    };
    context.owned.adopt_container(OwnedContainer {
        watched,
        entry,
        handle: None,
    });
    let request = {
        let engine = engine.clone();
        async move { with_timeout(&engine, request.start()).await }
    };
    let starting = context.owned.start_container(name.clone(), request);
    let failed = UpError::engine(format!("start the container {name}"));
    let handle = starting.await.map_err(failed)?;
    let address = listening.address(engine, &name).await;
    let address = address.map_err(UpError::engine(format!("report where {name} listens")))?;
    Ok((
        handle,
        Part {
            name: part.to_owned(),
            runs_as: format!("container {name}"),
            address,
            metrics: None,
            log: Some(format!("{}/{part}.log", base::run::LOGS)),
        },
    ))
}

impl Listening {
    async fn address(&self, engine: &Engine, name: &str) -> Result<String, String> {
        match self {
            Listening::Published(port) => published(engine, name, *port).await,
            Listening::OnHost(address) => Ok(address.to_string()),
        }
    }
}

async fn answers(
    context: &Context<'_>,
    engine: &Engine,
    handle: &Handle,
    part: &str,
    check: impl AsyncFn() -> Result<(), String>,
) -> Result<(), UpError> {
    let ready = wait::until(
        format!("{part} accepts connections"),
        context.deadlines.backing_services,
        LOOK_EVERY,
        async || match check().await {
            Ok(()) => Observation::Ready(()),
            Err(reason) => match handle.is_running().await {
                Ok(false) => Observation::Failed("its container has ended".into()),
                _ => Observation::NotYet(reason),
            },
        },
    );
    let ready = tokio::select! {
        ready = ready => ready,
        () = silence(engine) => return Err(UpError::Engine {
            what: format!("report the state of {part}"),
            reason: format!("it has stopped answering: no pong within {PONG:?}"),
        }),
    };
    ready.map_err(UpError::wait(part, Some(context.log(part))))
}

/// Checks that a Redis with a password is at `address`: it answers `-NOAUTH` to a PING without one.
/// Returns what it observed instead.
pub async fn answers_ping(address: &str) -> Result<(), String> {
    let ping = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    match ping.await {
        Ok(answer) if answer.starts_with("-NOAUTH") => Ok(()),
        Ok(answer) => Err(format!("PING was answered {answer:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Reports containers that end, or that run again.
pub struct ContainerWatch(FuturesUnordered<BoxFuture<'static, (Watched, Change)>>);

/// A change of a container.
pub enum Change {
    /// It ended unexpectedly.
    Lost(Lost),
    /// It runs again.
    Back {
        /// The part.
        part: String,
        /// Its address now: the engine publishes another port at each start.
        address: String,
    },
}

#[derive(Clone)]
struct Watched {
    engine: Engine,
    name: String,
    part: String,
    listening: Listening,
    log: PathBuf,
    /// When it last ended. The handle follows the log until the first end.
    ended: Option<Timestamp>,
}

impl ContainerWatch {
    /// Watches these containers.
    pub fn new(containers: &[OwnedContainer]) -> Self {
        let watched = containers.iter().map(|it| it.watched.clone());
        ContainerWatch(watched.map(Watched::end).collect())
    }

    /// Returns the next change. Never returns without containers. Cancel safe.
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
                Some(Err(error)) => format!("the engine lost it: {}", base::chain(&error)),
                None => "the engine reports no status of it".into(),
            };
            drop(end);
            self.ended = Some(Timestamp::now());
            let lost = Lost {
                part: self.part.clone(),
                how,
                log: self.log.clone(),
            };
            (self, Change::Lost(lost))
        })
    }

    /// Appends its output to its log, after a restart.
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
            let mut output = self.engine.client().logs(&self.name, Some(options));
            while let Some(Ok(output)) = output.next().await {
                // A full disk must not end the environment.
                let _ = file.write_all(&output.into_bytes()).await;
                let _ = file.flush().await;
            }
        }
        std::future::pending().await
    }

    async fn address_if_running(&self) -> Result<String, String> {
        match containers::is_running(&self.engine, &self.name).await? {
            true => self.listening.address(&self.engine, &self.name).await,
            false => Err("it does not run".into()),
        }
    }

    /// Waits until it runs again. Polls: a restarted engine does not notify its former clients.
    fn start(self) -> BoxFuture<'static, (Watched, Change)> {
        const LOOK_EVERY: Duration = Duration::from_secs(1);
        Box::pin(async move {
            let address = loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Ok(address) = self.address_if_running().await {
                    break address;
                }
            };
            let back = Change::Back {
                part: self.part.clone(),
                address,
            };
            (self, back)
        })
    }
}
