//! The six services as processes of this machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::backing::Backing;
use super::colours::{self, Colours};
use crate::bring_up::{Context, UpError, process_part};
use crate::process::bound::{Program, Reach, describe};
use crate::router::{Backends, Upstreams};
use crate::run::event::{Part, Stage};
use crate::service::Service;
use crate::wait::{self, Observation};

const MIGRATE: &str = "migrate";
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Applies the schema and the seed data.
pub async fn migrate(
    context: &Context<'_>,
    platform: &Path,
    backing: &Backing,
) -> Result<(), UpError> {
    let begun = Instant::now();
    let patience = context.deadlines.backing_services;
    context.owned.start(&Program {
        arguments: vec![
            "migrate".into(),
            "--wait-seconds".into(),
            patience.as_secs().to_string().into(),
        ],
        environment: vec![("DATABASE_URL".into(), backing.database_url.clone())],
        ..program(context, MIGRATE, platform)
    })?;
    // Its own patience is for Postgres; the rest is for the schema.
    let status = context.owned.finish(MIGRATE, patience * 2).await?;
    if !status.success() {
        return Err(UpError::Ended {
            part: MIGRATE.into(),
            how: describe(status),
            log: context.log(MIGRATE),
        });
    }
    context.step(
        Stage::Deploy,
        "the schema and the seed data are there",
        begun,
    );
    Ok(())
}

/// The services, ready.
pub struct Services {
    /// Who answers for each.
    pub upstreams: Upstreams,
    /// For the report.
    pub parts: Vec<Part>,
    /// The one that can be released.
    pub colours: Colours,
}

/// Where each is called.
type Addresses = BTreeMap<Service, SocketAddr>;

/// Where a process of the platform listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    /// For users and other services.
    pub address: SocketAddr,
    /// For its metrics, health and faults.
    pub metrics: SocketAddr,
}

/// Starts each service once those it calls listen, then waits until all are ready.
pub async fn start(
    context: &Context<'_>,
    platform: &Path,
    backing: &Backing,
) -> Result<Services, UpError> {
    let begun = Instant::now();
    let mut addresses = Addresses::new();
    let mut metrics = Addresses::new();
    // It calls none of the others.
    let variables = environment(context, colours::SERVICE, backing, &addresses);
    let colours = Colours::start(context, platform, variables).await?;
    addresses.insert(colours::SERVICE, colours.address());
    let processes = Service::ALL
        .into_iter()
        .filter(|it| *it != colours::SERVICE);
    for service in processes.clone() {
        let environment = environment(context, service, backing, &addresses);
        context.owned.start(&Program {
            arguments: vec!["serve".into(), service.name().into()],
            environment,
            ..program(context, service.name(), platform)
        })?;
        let listening = listening(context, service).await?;
        addresses.insert(service, listening.address);
        metrics.insert(service, listening.metrics);
    }
    let ready = processes.map(|service| ready(context, service, metrics[&service]));
    let (_, ()) = futures::try_join!(
        futures::future::try_join_all(ready),
        colours.ready(context.deadlines.service_ready)
    )?;
    context.step(Stage::Deploy, "all six services are ready", begun);
    let parts = Service::ALL.map(|service| match service {
        colours::SERVICE => colours.part(),
        _ => Part {
            metrics: Some(metrics[&service].to_string()),
            ..process_part(
                context.owned,
                service.name(),
                addresses[&service].to_string(),
            )
        },
    });
    let mut upstreams: Upstreams = addresses
        .into_iter()
        .map(|(service, address)| (service, Backends::one(address)))
        .collect();
    upstreams.insert(colours::SERVICE, colours.backends());
    Ok(Services {
        upstreams,
        parts: parts.into(),
        colours,
    })
}

fn program(context: &Context<'_>, name: &str, path: &Path) -> Program {
    Program {
        name: name.to_owned(),
        path: path.to_owned(),
        arguments: Vec::new(),
        environment: Vec::new(),
        user: None,
        log: context.log(name),
        stop_signal: Signal::SIGTERM,
        stop_reaches: Reach::Group,
        death_signal: Signal::SIGKILL,
    }
}

fn environment(
    context: &Context<'_>,
    service: Service,
    backing: &Backing,
    addresses: &Addresses,
) -> Vec<(String, String)> {
    let secrets = context.secrets;
    let mut all = vec![
        ("LISTEN_ADDRESS".into(), "127.0.0.1:0".into()),
        ("METRICS_ADDRESS".into(), "127.0.0.1:0".into()),
        ("DATABASE_URL".into(), backing.database_url.clone()),
        ("REDIS_URL".into(), backing.redis_url.clone()),
        ("JWT_SECRET".into(), secrets.jwt_secret.clone()),
        ("DEMO_PASSWORD".into(), secrets.demo_password.clone()),
        (
            "SERVICE_VERSION".into(),
            context.config.platform.version.clone(),
        ),
        (
            "INSTANCE".into(),
            format!("{service}-{}", context.owned.environment()),
        ),
        ("ENVIRONMENT".into(), context.target_name.to_owned()),
        ("FAULTS_ALLOWED".into(), "true".into()),
        // Nothing has to learn that an endpoint is going: the router goes first.
        ("DRAIN_SECONDS".into(), "0".into()),
    ];
    for (called, address) in addresses {
        if let Some(variable) = called.url_variable() {
            all.push((variable.into(), format!("http://{address}")));
        }
    }
    let own = context
        .config
        .service_env
        .get(&service)
        .into_iter()
        .flatten();
    all.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    all
}

/// Where the service says it listens.
async fn listening(context: &Context<'_>, service: Service) -> Result<Listening, UpError> {
    let log = context.log(service.name());
    let listening = wait::until(
        format!("{service} listens"),
        context.deadlines.service_ready,
        LOOK_EVERY,
        async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(listening) = text.lines().find_map(listening_line) {
                return Observation::Ready(listening);
            }
            match context.owned.ended(service.name()) {
                Some(status) => {
                    Observation::Hopeless(format!("it ended with {}", describe(status)))
                }
                None => Observation::NotYet("no \"listening\" line in its log".into()),
            }
        },
    );
    listening
        .await
        .map_err(|wait| wait_error(context, service, wait))
}

/// A line of the service's log: JSON with a message and fields.
pub(super) fn listening_line(line: &str) -> Option<Listening> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    if fields["message"] != "listening" {
        return None;
    }
    let address = |name: &str| -> Option<SocketAddr> { fields[name].as_str()?.parse().ok() };
    Some(Listening {
        address: address("address")?,
        metrics: address("metrics")?,
    })
}

async fn ready(
    context: &Context<'_>,
    service: Service,
    metrics: SocketAddr,
) -> Result<(), UpError> {
    let url = format!("http://{metrics}/health/ready");
    let ready = wait::until(
        format!("{service} is ready"),
        context.deadlines.service_ready,
        LOOK_EVERY,
        async || {
            if let Some(status) = context.owned.ended(service.name()) {
                return Observation::Hopeless(format!("it ended with {}", describe(status)));
            }
            match context.http.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => Observation::Ready(()),
                Ok(answer) => {
                    let status = answer.status();
                    let body = answer.text().await.unwrap_or_default();
                    Observation::NotYet(format!("{url} says {status}: {body}"))
                }
                Err(error) => Observation::NotYet(format!("{url}: {}", crate::chain(&error))),
            }
        },
    );
    ready
        .await
        .map_err(|wait| wait_error(context, service, wait))
}

fn wait_error(context: &Context<'_>, service: Service, wait: wait::WaitError) -> UpError {
    UpError::Wait {
        part: service.name().into(),
        log: Some(context.log(service.name())),
        wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_read_from_the_services_own_word() {
        let listening = Listening {
            address: "127.0.0.1:4711".parse().unwrap(),
            metrics: "127.0.0.1:4712".parse().unwrap(),
        };
        let flat =
            r#"{"message":"listening","address":"127.0.0.1:4711","metrics":"127.0.0.1:4712"}"#;
        let nested = format!(r#"{{"level":"INFO","fields":{flat}}}"#);
        assert_eq!(listening_line(&nested), Some(listening));
        assert_eq!(listening_line(flat), Some(listening));
        for other in [
            "",
            "listening",
            r#"{"message":"ready","address":"127.0.0.1:1","metrics":"127.0.0.1:2"}"#,
            r#"{"message":"listening","address":"127.0.0.1:1"}"#,
        ] {
            assert_eq!(listening_line(other), None, "{other}");
        }
    }
}
