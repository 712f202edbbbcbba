//! The services as processes and containers of this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::colours::Colours;
use super::container::{ServiceContainer, ServiceImages};
use super::free_port;
use super::process::{ServiceProcess, address};
use super::readiness::{accepts_connections, answers};
use crate::bring_up::{Context, UpError, process_part};
use crate::config::placeholders::Values;
use crate::router::{Backends, Upstreams};
use base::process::describe;
use base::run::event::{Part, Stage};
use base::wait::{self, Observation};

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The services, once they are ready.
pub struct RunningServices {
    /// The addresses of each service.
    pub upstreams: Upstreams,
    /// For the report.
    pub parts: Vec<Part>,
    /// Where a service answers 2xx while it is ready.
    pub ready_urls: BTreeMap<String, String>,
    /// The service with two colours, if there is one.
    pub colours: Option<Colours>,
}

/// A service that listens.
struct Started {
    part: Part,
    backends: Backends,
    /// Answers 2xx once it is ready.
    ready_url: Option<String>,
    colours: Option<Colours>,
    container: Option<ServiceContainer>,
}

/// Starts each service once the services that it calls listen. Waits until all are ready.
pub async fn start(
    context: &Context<'_>,
    program: Option<&Path>,
    images: Option<&ServiceImages>,
    values: &Values,
) -> Result<RunningServices, UpError> {
    let begun = Instant::now();
    let mut all: BTreeMap<&str, Started> = BTreeMap::new();
    for service in &context.config.services {
        let url = |called: &str| format!("http://{}", all[called].part.address);
        let process = ServiceProcess::of(context, service, values, url)?;
        let started = match (program, images) {
            (Some(program), _) if service.blue_green => {
                start_colours(context, program, &service.name, process).await?
            }
            (_, Some(images)) if service.local.image.is_some() => {
                start_container(context, images, &service.name, &process).await?
            }
            _ => start_process(context, &service.name, &process).await?,
        };
        all.insert(&service.name, started);
    }
    let ready = all.values().map(|started| ready(context, started));
    futures::future::try_join_all(ready).await?;
    context.step(Stage::Deploy, "all services are ready", begun);
    let backends = |(name, it): (&&str, &Started)| (name.to_string(), it.backends.clone());
    let ready_url = |(name, it): (&&str, &Started)| Some((name.to_string(), it.ready_url.clone()?));
    let names = context.config.service_names();
    Ok(RunningServices {
        upstreams: all.iter().map(backends).collect(),
        ready_urls: all.iter().filter_map(ready_url).collect(),
        parts: names.map(|name| all[name].part.clone()).collect(),
        colours: all.into_values().find_map(|it| it.colours),
    })
}

async fn start_colours(
    context: &Context<'_>,
    program: &Path,
    service: &str,
    process: ServiceProcess,
) -> Result<Started, UpError> {
    let colours = Colours::start(context, program, service, process).await?;
    Ok(Started {
        part: colours.part(),
        backends: colours.backends(),
        ready_url: colours.ready_url(),
        colours: Some(colours),
        container: None,
    })
}

async fn start_container(
    context: &Context<'_>,
    images: &ServiceImages,
    service: &str,
    process: &ServiceProcess,
) -> Result<Started, UpError> {
    let container = images.start(context, service, process).await?;
    Ok(Started {
        part: container.part.clone(),
        backends: Backends::one(process.listening(container.ports).address),
        ready_url: process.ready_url(container.ports),
        colours: None,
        container: Some(container),
    })
}

async fn start_process(
    context: &Context<'_>,
    service: &str,
    process: &ServiceProcess,
) -> Result<Started, UpError> {
    let what = format!("{service} listens");
    let ports = free_port::start(
        context.owned,
        &what,
        context.deadlines.service_ready,
        |ports| process.program(context.child(service, ""), ports),
        |[port, _]| accepts_connections(address(port)),
    );
    let ports = ports.await?;
    let listening = process.listening(ports);
    let part = process_part(context.owned, service, listening.address.to_string());
    Ok(Started {
        part: Part {
            metrics: listening.metrics.map(|it| it.to_string()),
            ..part
        },
        backends: Backends::one(listening.address),
        ready_url: process.ready_url(ports),
        colours: None,
        container: None,
    })
}

async fn ready(context: &Context<'_>, started: &Started) -> Result<(), UpError> {
    let deadline = context.deadlines.service_ready;
    if let Some(colours) = &started.colours {
        return colours.ready(deadline).await;
    }
    let Some(url) = &started.ready_url else {
        // It listens: that is enough.
        return Ok(());
    };
    let service = &started.part.name;
    let what = format!("{service} is ready");
    let ready = wait::until(what, deadline, LOOK_EVERY, async || {
        if let Some(how) = ended(context, started).await {
            return Observation::Failed(how);
        }
        match answers(&context.http, url).await {
            Ok(()) => Observation::Ready(()),
            Err(reason) => Observation::NotYet(reason),
        }
    });
    let log = Some(context.log(service));
    let ready = async { ready.await.map_err(UpError::wait(service, log)) };
    match &started.container {
        Some(container) => container.while_engine_answers(ready).await,
        None => ready.await,
    }
}

/// Returns how it ended, if it has.
async fn ended(context: &Context<'_>, started: &Started) -> Option<String> {
    match &started.container {
        Some(container) => container.ended().await,
        None => {
            let status = context.owned.ended(&started.part.name)?;
            Some(format!("it ended with {}", describe(status)))
        }
    }
}
