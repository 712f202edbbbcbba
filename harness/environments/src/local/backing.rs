//! Postgres and Redis for the local target, as containers or from binaries.

use std::path::PathBuf;
use std::time::Instant;

use super::{postgres, redis};
use crate::bring_up::{Context, POSTGRES, REDIS, UpError, containers};
use crate::config::{BackingServices, PlatformBackingServices};
use base::run::event::{Part, Stage};
use machine::engine::{self, Engine};
use machine::images;
use machine::tools;

/// The services that the platform needs, accepting connections. The URLs contain passwords: they are
/// only for the environment of children.
pub struct Backing {
    /// The libpq connection URI.
    pub database_url: Option<String>,
    /// The Redis URI.
    pub redis_url: Option<String>,
    /// For the report.
    pub parts: Vec<Part>,
}

/// The source of the services. One that the platform does not need has none.
pub enum Choice {
    /// Containers of these images.
    Containers {
        /// The container engine.
        engine: Box<Engine>,
        /// Postgres' image.
        postgres: Option<String>,
        /// Redis' image.
        redis: Option<String>,
    },
    /// Processes of these programs.
    Binaries {
        /// The folder of `initdb` and `postgres`.
        postgres: Option<PathBuf>,
        /// `redis-server`.
        redis: Option<PathBuf>,
    },
}

/// Chooses by `harness.toml` and by what is available, and reports why.
pub async fn choose(context: &Context<'_>, configured: BackingServices) -> Result<Choice, UpError> {
    let needed = context.config.backing_services;
    match configured {
        _ if needed.is_none() => binaries(needed),
        BackingServices::Binaries => binaries(needed),
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
    let needed = context.config.backing_services;
    let note = |how: &str| {
        context.note(
            Stage::Provision,
            format!("{needed} {how}, because {reason}"),
        )
    };
    match (binaries(needed), &reason) {
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

fn binaries(needed: PlatformBackingServices) -> Result<Choice, UpError> {
    let missing = |name, program: &str| UpError::NoSupply {
        name,
        why: format!(
            "no container is used, and {program} is not on PATH or where it is usually installed"
        ),
    };
    let found = |needed: bool, program: Option<PathBuf>, name, file| match (needed, program) {
        (true, None) => Err(missing(name, file)),
        (needed, program) => Ok(program.filter(|_| needed)),
    };
    let (postgres, redis) = (tools::postgres_bin_dir(), tools::redis_server());
    Ok(Choice::Binaries {
        postgres: found(needed.postgres, postgres, "Postgres", "initdb")?,
        redis: found(needed.redis, redis, "Redis", "redis-server")?,
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
    let ensure = async |needed: bool, name: &str| {
        if !needed {
            return Ok(None);
        }
        let image = match build {
            true => images::ensure(&engine, &workshop, name, context.supply, &progress).await,
            false => images::present_or_pull(&engine, &workshop, name, &progress).await,
        };
        image
            .map(|reference| Some(reference.to_string()))
            .map_err(|error| UpError::engine(format!("have the image {name}"))(base::chain(&error)))
    };
    let needed = context.config.backing_services;
    let postgres = ensure(needed.postgres, POSTGRES).await?;
    let redis = ensure(needed.redis, REDIS).await?;
    Ok(Choice::Containers {
        engine: Box::new(engine),
        postgres,
        redis,
    })
}

/// Starts the services and waits until they accept connections.
pub async fn start(context: &Context<'_>, choice: &Choice) -> Result<Backing, UpError> {
    let postgres = async {
        match choice {
            Choice::Containers {
                engine,
                postgres: Some(image),
                ..
            } => containers::postgres(context, engine, image, None)
                .await
                .map(Some),
            Choice::Binaries {
                postgres: Some(folder),
                ..
            } => postgres::start(context, folder).await.map(Some),
            _ => Ok(None),
        }
    };
    let redis = async {
        match choice {
            Choice::Containers {
                engine,
                redis: Some(image),
                ..
            } => containers::redis(context, engine, image, None)
                .await
                .map(Some),
            Choice::Binaries {
                redis: Some(program),
                ..
            } => redis::start(context, program).await.map(Some),
            _ => Ok(None),
        }
    };
    let (postgres, redis) = futures::try_join!(
        timed(context, "Postgres accepts connections", postgres),
        timed(context, "Redis accepts connections", redis),
    )?;
    let secrets = context.secrets;
    Ok(Backing {
        database_url: postgres
            .as_ref()
            .map(|it| secrets.database_url(&it.address)),
        redis_url: redis.as_ref().map(|it| secrets.redis_url(&it.address)),
        parts: postgres.into_iter().chain(redis).collect(),
    })
}

/// Reports the step, unless nothing was started.
async fn timed(
    context: &Context<'_>,
    step: &str,
    started: impl Future<Output = Result<Option<Part>, UpError>>,
) -> Result<Option<Part>, UpError> {
    let begun = Instant::now();
    let part = started.await?;
    if part.is_some() {
        context.step(Stage::Provision, step, begun);
    }
    Ok(part)
}
