//! Postgres and Redis for the local target, as containers or from binaries.

use std::path::PathBuf;

use super::{postgres, redis};
use crate::bring_up::{Context, POSTGRES, REDIS, UpError, containers};
use crate::config::BackingServices;
use base::run::event::{Part, Stage};
use machine::engine::{self, Engine};
use machine::images;
use machine::tools;

/// Both services, accepting connections. The URLs contain passwords: they are only for the
/// environment of children.
pub struct Backing {
    /// The libpq connection URI.
    pub database_url: String,
    /// The Redis URI.
    pub redis_url: String,
    /// For the report.
    pub parts: [Part; 2],
}

/// The source of both services.
pub enum Choice {
    /// Containers of these images.
    Containers {
        /// The container engine.
        engine: Box<Engine>,
        /// Postgres' image.
        postgres: String,
        /// Redis' image.
        redis: String,
    },
    /// Processes of these programs.
    Binaries {
        /// The folder of `initdb` and `postgres`.
        postgres: PathBuf,
        /// `redis-server`.
        redis: PathBuf,
    },
}

/// Chooses by `harness.toml` and by what is available, and reports why.
pub async fn choose(context: &Context<'_>, configured: BackingServices) -> Result<Choice, UpError> {
    match configured {
        BackingServices::Binaries => binaries(),
        BackingServices::Containers => containers(context, true).await,
        BackingServices::Auto => match containers(context, false).await {
            Ok(choice) => Ok(choice),
            Err(reason) => without_available_images(context, reason).await,
        },
    }
}

/// Prefers binaries, which need no build.
async fn without_available_images(
    context: &Context<'_>,
    reason: UpError,
) -> Result<Choice, UpError> {
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

/// With `build`, also if an image must be built, which takes minutes.
async fn containers(context: &Context<'_>, build: bool) -> Result<Choice, UpError> {
    let engine = Engine::find(engine::TIMEOUT)
        .await
        .map_err(|none| UpError::NoEngine {
            why: none.in_short(),
        })?;
    let workshop = context.workshop();
    let progress = |text: &str| context.progress(Stage::Provision, text);
    let ensure = async |name: &str| {
        let image = match build {
            true => images::ensure(&engine, &workshop, name, context.supply, &progress).await,
            false => images::present_or_pull(&engine, &workshop, name, &progress).await,
        };
        image
            .map(|reference| reference.to_string())
            .map_err(|error| UpError::engine(format!("have the image {name}"))(base::chain(&error)))
    };
    let postgres = ensure(POSTGRES).await?;
    let redis = ensure(REDIS).await?;
    Ok(Choice::Containers {
        engine: Box::new(engine),
        postgres,
        redis,
    })
}

/// Starts both services and waits until they accept connections.
pub async fn start(context: &Context<'_>, choice: &Choice) -> Result<Backing, UpError> {
    let postgres = async {
        match choice {
            Choice::Containers {
                engine, postgres, ..
            } => containers::postgres(context, engine, postgres, None).await,
            Choice::Binaries { postgres, .. } => postgres::start(context, postgres).await,
        }
    };
    let redis = async {
        match choice {
            Choice::Containers { engine, redis, .. } => {
                containers::redis(context, engine, redis, None).await
            }
            Choice::Binaries { redis, .. } => redis::start(context, redis).await,
        }
    };
    let (postgres, redis) = futures::try_join!(
        context.timed(Stage::Provision, "Postgres accepts connections", postgres),
        context.timed(Stage::Provision, "Redis accepts connections", redis),
    )?;
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
