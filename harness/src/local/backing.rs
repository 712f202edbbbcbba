//! Postgres and Redis for the local target: from containers or from binaries.

use std::path::PathBuf;
use std::time::Duration;

use super::{postgres, redis};
use crate::bring_up::{Context, POSTGRES, REDIS, UpError, containers};
use crate::config::BackingServices;
use crate::engine::{self, Engine};
use crate::images;
use crate::run::event::{Part, Stage};
use crate::tools;

/// Both, accepting connections. The URLs hold passwords: for environments of children only.
pub struct Backing {
    /// libpq connection URI.
    pub database_url: String,
    /// Redis URI.
    pub redis_url: String,
    /// For the report.
    pub parts: [Part; 2],
}

/// How both are had here.
pub enum Choice {
    /// As containers of these images.
    Containers {
        /// Who runs them.
        engine: Box<Engine>,
        /// Postgres' image.
        postgres: String,
        /// Redis' image.
        redis: String,
    },
    /// As processes of these programs.
    Binaries {
        /// Where `initdb` and `postgres` are.
        postgres: PathBuf,
        /// `redis-server`.
        redis: PathBuf,
    },
}

/// Decides by `harness.toml` and by what is there, and says why.
pub async fn choose(context: &Context<'_>, configured: BackingServices) -> Result<Choice, UpError> {
    match configured {
        BackingServices::Binaries => binaries(),
        BackingServices::Containers => containers(context, true).await,
        BackingServices::Auto => match containers(context, false).await {
            Ok(choice) => Ok(choice),
            Err(reason) => without_images_at_hand(context, reason).await,
        },
    }
}

/// Binaries, since they take no time; images that must be built, where there is no other way.
async fn without_images_at_hand(context: &Context<'_>, reason: UpError) -> Result<Choice, UpError> {
    let note = |how: &str| {
        context.note(
            Stage::Provision,
            format!("Postgres and Redis {how}, because {reason}"),
        )
    };
    match (binaries(), &reason) {
        (Ok(choice), _) => {
            note("run from binaries");
            Ok(choice)
        }
        (Err(missing), UpError::NoEngine { .. }) => Err(missing),
        (Err(_), _) => {
            note("need images that are built now");
            containers(context, true).await
        }
    }
}

fn binaries() -> Result<Choice, UpError> {
    let missing = |name, program: &str| UpError::NoSupply {
        name,
        why: format!(
            "no container is used, and {program} is not on PATH or where it is usually installed"
        ),
    };
    Ok(Choice::Binaries {
        postgres: tools::postgres_bin_dir().ok_or_else(|| missing("Postgres", "initdb"))?,
        redis: tools::redis_server().ok_or_else(|| missing("Redis", "redis-server"))?,
    })
}

/// `build`: also where building an image takes minutes.
async fn containers(context: &Context<'_>, build: bool) -> Result<Choice, UpError> {
    let engine = Engine::find(engine::PATIENCE)
        .await
        .map_err(|none| UpError::NoEngine {
            why: none.in_short(),
        })?;
    let workshop = context.workshop();
    let progress = |text: &str| context.progress(Stage::Provision, text);
    let ensure = async |name: &str| {
        let image = match build {
            true => images::ensure(&engine, &workshop, name, context.supply, &progress).await,
            false => images::at_hand(&engine, &workshop, name, &progress).await,
        };
        image
            .map(|reference| reference.to_string())
            .map_err(|error| UpError::Engine {
                what: format!("have the image {name}"),
                reason: crate::chain(&error),
            })
    };
    let postgres = ensure(POSTGRES).await?;
    let redis = ensure(REDIS).await?;
    Ok(Choice::Containers {
        engine: Box::new(engine),
        postgres,
        redis,
    })
}

/// Starts both at once and waits until they accept connections.
pub async fn start(context: &Context<'_>, choice: &Choice) -> Result<Backing, UpError> {
    let begun = std::time::Instant::now();
    let started = |name: &str| {
        context.step(
            Stage::Provision,
            format!("{name} accepts connections"),
            begun,
        )
    };
    let postgres = async {
        let part = match choice {
            Choice::Containers {
                engine, postgres, ..
            } => containers::postgres(context, engine, postgres, None).await,
            Choice::Binaries { postgres, .. } => postgres::start(context, postgres).await,
        }?;
        started("Postgres");
        Ok::<_, UpError>(part)
    };
    let redis = async {
        let part = match choice {
            Choice::Containers { engine, redis, .. } => {
                containers::redis(context, engine, redis, None).await
            }
            Choice::Binaries { redis, .. } => redis::start(context, redis).await,
        }?;
        started("Redis");
        Ok::<_, UpError>(part)
    };
    let (postgres, redis) = futures::try_join!(postgres, redis)?;
    let secrets = context.secrets;
    Ok(Backing {
        database_url: format!(
            "postgres://trii:{}@{}/postgres",
            secrets.postgres_password, postgres.address
        ),
        redis_url: format!("redis://:{}@{}/", secrets.redis_password, redis.address),
        parts: [postgres, redis],
    })
}

/// How often a fresh port is tried, when another process took the one found free.
const PORT_TRIES: usize = 5;

/// Starts a child on a port that was free a moment ago, again on another if it was taken
/// meanwhile. `attempt` says `Ok(None)` when the port was taken.
pub async fn on_a_free_port(
    context: &Context<'_>,
    part: &str,
    attempt: impl AsyncFn(u16) -> Result<Option<()>, UpError>,
) -> Result<u16, UpError> {
    for _ in 0..PORT_TRIES {
        let port = free_port()?;
        if attempt(port).await?.is_some() {
            return Ok(port);
        }
        context.owned.discard(part, Duration::from_secs(5)).await?;
    }
    Err(UpError::Ports {
        part: part.to_owned(),
        tries: PORT_TRIES,
        log: context.log(part),
    })
}

fn free_port() -> Result<u16, UpError> {
    std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(UpError::system("find a free port"))
}
