//! Postgres and Redis for the local target, as containers or from binaries.

use std::path::PathBuf;
use std::time::Instant;

use nix::unistd::User;

use super::{postgres, redis};
use crate::bring_up::{Context, POSTGRES, REDIS, UpError, backing_image, containers};
use crate::config::{
    BackingServices, MajorVersion, PlatformBackingServices, PlatformPostgres, PlatformRedis,
};
use base::process::user;
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
    let needed = &context.config.backing_services;
    match configured {
        _ if needed.is_none() => binaries(needed).await,
        BackingServices::Binaries => binaries(needed).await,
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
    let needed = &context.config.backing_services;
    let note = |how: &str| {
        context.note(
            Stage::Provision,
            format!("{needed} {how}, because {reason}"),
        )
    };
    match (binaries(needed).await, &reason) {
        (Ok(choice), _) => {
            note("run from binaries");
            Ok(choice)
        }
        (Err(missing), UpError::NoEngine { .. }) => Err(missing),
        // Neither is of the needed version.
        (Err(missing), UpError::NoSupply { name, why }) => Err(UpError::NoSupply {
            name,
            why: format!("{why}; {missing}"),
        }),
        (Err(_), _) => {
            note("need images that are built now");
            containers(context, true).await
        }
    }
}

async fn binaries(needed: &PlatformBackingServices) -> Result<Choice, UpError> {
    Ok(Choice::Binaries {
        postgres: match &needed.postgres {
            Some(postgres) => Some(postgres_folder(postgres).await?),
            None => None,
        },
        redis: match &needed.redis {
            Some(redis) => Some(redis_program(redis).await?),
            None => None,
        },
    })
}

async fn postgres_folder(needed: &PlatformPostgres) -> Result<PathBuf, UpError> {
    // As root, another user runs it, who may not find the programs that root finds.
    let user = user::unprivileged().ok().flatten();
    let programs = tools::postgres_bin_dirs().map(|folder| folder.join("postgres"));
    let found = of_version(programs, needed.version.as_ref(), user.as_ref()).await;
    let mut program = found.map_err(|others| no_program("Postgres", "initdb", &others))?;
    program.pop();
    Ok(program)
}

async fn redis_program(needed: &PlatformRedis) -> Result<PathBuf, UpError> {
    let programs = tools::redis_server().into_iter();
    let found = of_version(programs, needed.version.as_ref(), None).await;
    found.map_err(|others| no_program("Redis", "redis-server", &others))
}

/// Returns the first program of this version, or the first one if any version will do.
///
/// # Errors
/// The programs that are of other versions, each with its own.
async fn of_version(
    programs: impl Iterator<Item = PathBuf>,
    version: Option<&MajorVersion>,
    user: Option<&User>,
) -> Result<PathBuf, Vec<String>> {
    let mut others = Vec::new();
    for program in programs {
        let Some(version) = version else {
            return Ok(program);
        };
        let line = tools::version_line_as_part(&program, &["--version"], user).await;
        let line = line.unwrap_or_else(|| "of no known version".to_owned());
        if version.includes(&line) {
            return Ok(program);
        }
        others.push(format!("{} is {line}, not {version}", program.display()));
    }
    Err(others)
}

fn no_program(name: &'static str, program: &str, others: &[String]) -> UpError {
    UpError::NoSupply {
        name,
        why: match others {
            [] => format!(
                "no container is used, and {program} is not on PATH or where it is usually installed"
            ),
            others => format!("no container is used, and {}", others.join(", ")),
        },
    }
}

/// With `build`, also if an image must be built, which takes minutes.
async fn containers(context: &Context<'_>, build: bool) -> Result<Choice, UpError> {
    let engine = Engine::find(engine::TIMEOUT)
        .await
        .map_err(|none| UpError::NoEngine {
            why: none.in_short(),
        })?;
    let workshop = context.workshop();
    let needed = &context.config.backing_services;
    for (recipe, version) in needed.versions() {
        backing_image::check(&workshop.recipes, recipe, version).map_err(|found| {
            let why = format!("{found}, not {version}");
            UpError::NoSupply {
                name: in_words(recipe),
                why,
            }
        })?;
    }
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
    let postgres = ensure(needed.postgres.is_some(), POSTGRES).await?;
    let redis = ensure(needed.redis.is_some(), REDIS).await?;
    Ok(Choice::Containers {
        engine: Box::new(engine),
        postgres,
        redis,
    })
}

fn in_words(service: &str) -> &'static str {
    match service {
        POSTGRES => "Postgres",
        _ => "Redis",
    }
}

/// Starts the services and waits until they accept connections.
pub async fn start(context: &Context<'_>, choice: &Choice) -> Result<Backing, UpError> {
    let needed = &context.config.backing_services;
    let postgres = async {
        let Some(needed) = &needed.postgres else {
            return Ok(None);
        };
        match choice {
            Choice::Containers {
                engine,
                postgres: Some(image),
                ..
            } => containers::postgres(context, engine, needed, image, None)
                .await
                .map(Some),
            Choice::Binaries {
                postgres: Some(folder),
                ..
            } => postgres::start(context, needed, folder).await.map(Some),
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
            .zip(needed.postgres.as_ref())
            .map(|(it, needed)| secrets.database_url(needed, &it.address)),
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn needed(version: &str) -> MajorVersion {
        let text = include_str!("../../../../harness.toml");
        let table = "[backing_services.postgres]";
        let text = text.replacen(table, &format!("{table}\nversion = {version:?}"), 1);
        let config = Config::parse(Path::new("harness.toml"), &text).unwrap();
        config.backing_services.postgres.unwrap().version.unwrap()
    }

    /// Programs that print their versions.
    #[tokio::test]
    async fn the_first_program_of_the_needed_version_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, line: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho '{line}'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let programs = [
            program("new", "postgres (PostgreSQL) 17.2"),
            program(
                "old",
                "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)",
            ),
        ];
        let chosen = async |version: Option<&MajorVersion>| {
            of_version(programs.clone().into_iter(), version, None).await
        };
        assert_eq!(chosen(None).await.as_ref(), Ok(&programs[0]));
        assert_eq!(chosen(Some(&needed("15"))).await.as_ref(), Ok(&programs[1]));
        let others = chosen(Some(&needed("16"))).await.unwrap_err();
        let error = no_program("Postgres", "initdb", &others).to_string();
        for found in [
            "new is postgres (PostgreSQL) 17.2, not 16",
            "old is postgres (PostgreSQL) 15.14",
        ] {
            assert!(error.contains(found), "{error}");
        }
    }
}
