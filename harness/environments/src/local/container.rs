//! Services as containers of their images.
//!
//! A container shares the network of this machine: it listens on a free port of 127.0.0.1, and
//! reaches the other services there, as a process does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::free_port::{PORT_TRIES, free_ports, says_port_taken};
use super::process::{ServiceProcess, address};
use super::readiness::accepts_connections;
use crate::bring_up::containers::{self, Handle, Listening};
use crate::bring_up::{Context, UpError};
use crate::config::{PlatformService, ServiceImage};
use base::run::event::{Part, Stage};
use base::wait::{self, Observation};
use machine::containers::{PONG, silence, with_timeout};
use machine::engine::{self, Engine};
use machine::images::{self, ImageError};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The images of the services that are containers, and the engine that has them.
pub struct ServiceImages {
    engine: Engine,
    /// By service.
    images: BTreeMap<String, String>,
}

/// A container that listens.
pub struct ServiceContainer {
    /// For the report.
    pub part: Part,
    /// For users, and for its metrics.
    pub ports: [u16; 2],
    engine: Engine,
    handle: Handle,
}

/// Pulls or builds the images of the services that are containers. Without such a service there are
/// none.
pub async fn images(context: &Context<'_>) -> Result<Option<ServiceImages>, UpError> {
    let services: Vec<_> = context.config.containers().collect();
    if services.is_empty() {
        return Ok(None);
    }
    let begun = Instant::now();
    let engine = Engine::find(engine::TIMEOUT).await;
    let engine = engine.map_err(|none| UpError::NoEngine {
        why: none.in_short(),
    })?;
    let obtaining = async {
        let mut images = BTreeMap::new();
        for (service, image) in &services {
            let obtained = obtain(context, &engine, image).await;
            let obtained = obtained.map_err(|error| UpError::Image {
                service: service.name.clone(),
                error: Box::new(error),
            })?;
            images.insert(service.name.clone(), obtained);
        }
        Ok::<_, UpError>(images)
    };
    let deadline = context.deadlines.images;
    let obtained = tokio::time::timeout(deadline, obtaining).await;
    let images = obtained.map_err(|_| UpError::Images {
        names: in_words(&services),
        deadline,
    })??;
    context.step(
        Stage::Provision,
        "the images of the services are here",
        begun,
    );
    Ok(Some(ServiceImages { engine, images }))
}

fn in_words(services: &[(&PlatformService, ServiceImage)]) -> String {
    let names: Vec<&str> = services.iter().map(|(it, _)| it.name.as_str()).collect();
    format!("of {}", names.join(", "))
}

async fn obtain(
    context: &Context<'_>,
    engine: &Engine,
    image: &ServiceImage,
) -> Result<String, ImageError> {
    let workshop = context.workshop();
    let progress = |text: &str| context.progress(Stage::Provision, text);
    let image = match image {
        ServiceImage::Recipe(name) => {
            images::ensure(engine, &workshop, name, context.supply, &progress).await
        }
        ServiceImage::Reference(name) => {
            images::present_or_pull_reference(engine, &workshop, name, &progress).await
        }
    };
    image.map(|image| image.to_string())
}

impl ServiceImages {
    /// Starts a service on free ports, and on others if a process took one of them meanwhile. Waits
    /// until it listens.
    pub async fn start(
        &self,
        context: &Context<'_>,
        service: &str,
        process: &ServiceProcess,
    ) -> Result<ServiceContainer, UpError> {
        for _ in 0..PORT_TRIES {
            let ports = free_ports().map_err(UpError::system("find a free port"))?;
            let container = self.create(context, service, process, ports).await?;
            if listens(context, &container).await? {
                return Ok(container);
            }
            let name = &container.part.name;
            context.owned.discard_container(container.name()).await?;
            context.note(Stage::Deploy, format!("{name} found its port taken"));
        }
        Err(UpError::Ports {
            part: service.to_owned(),
            tries: PORT_TRIES,
            log: context.log(service),
        })
    }

    async fn create(
        &self,
        context: &Context<'_>,
        service: &str,
        process: &ServiceProcess,
        ports: [u16; 2],
    ) -> Result<ServiceContainer, UpError> {
        let log = context.log(service);
        let request = containers::on_host_network(&self.images[service], &log);
        let request = process.container(request, ports);
        let addresses = process.listening(ports);
        let listening = Listening::OnHost(addresses.address);
        let started = containers::start(context, &self.engine, service, listening, request);
        let (handle, part) = started.await?;
        Ok(ServiceContainer {
            part: Part {
                metrics: addresses.metrics.map(|it| it.to_string()),
                ..part
            },
            ports,
            engine: self.engine.clone(),
            handle,
        })
    }
}

impl ServiceContainer {
    /// Its name in the engine.
    fn name(&self) -> &str {
        let runs_as = self.part.runs_as.as_str();
        runs_as.strip_prefix("container ").unwrap_or(runs_as)
    }

    /// Returns how it ended, if it has.
    pub async fn ended(&self) -> Option<String> {
        match self.handle.exit_code().await {
            Ok(code) => code.map(|code| format!("its container ended with exit code {code}")),
            Err(_) => None,
        }
    }

    /// Waits for `work` while the engine answers.
    pub async fn while_engine_answers<T>(
        &self,
        work: impl Future<Output = Result<T, UpError>>,
    ) -> Result<T, UpError> {
        tokio::select! {
            done = work => done,
            () = silence(&self.engine) => Err(UpError::Engine {
                what: format!("report the state of {}", self.part.name),
                reason: format!("it has stopped answering: no pong within {PONG:?}"),
            }),
        }
    }

    /// Returns whether it wrote that its port is taken.
    async fn found_port_taken(&self) -> bool {
        let output = async {
            let stdout = self.handle.stdout_to_vec().await.unwrap_or_default();
            let stderr = self.handle.stderr_to_vec().await.unwrap_or_default();
            [stdout, stderr].concat()
        };
        let output = with_timeout(&self.engine, output).await.unwrap_or_default();
        says_port_taken(&String::from_utf8_lossy(&output))
    }
}

/// Waits until a container listens. Returns false if another port may help.
async fn listens(context: &Context<'_>, container: &ServiceContainer) -> Result<bool, UpError> {
    let [port, _] = container.ports;
    let service = &container.part.name;
    let what = format!("{service} listens");
    let deadline = context.deadlines.service_ready;
    let listening = wait::until(what, deadline, LOOK_EVERY, async || {
        let accepted = accepts_connections(address(port)).await;
        // Looked at afterwards: another process that took the port also answers.
        match (container.ended().await, accepted) {
            (Some(_), _) if container.found_port_taken().await => Observation::Ready(false),
            (Some(how), _) => Observation::Failed(how),
            (None, Ok(())) => Observation::Ready(true),
            (None, Err(reason)) => Observation::NotYet(reason),
        }
    });
    let log = Some(context.log(service));
    let listening = async { listening.await.map_err(UpError::wait(service, log)) };
    container.while_engine_answers(listening).await
}
