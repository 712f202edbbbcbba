//! How each image is had: pulled, or built where no registry answers.
//!
//! `fixtures/images/<name>/image.toml` names both supplies. A built image is
//! tagged by the hash of all that makes it, so unchanged content is never built
//! again and changed content is never mistaken for it.

mod apt_sources;
mod build;
mod pull;
mod recipe;
pub mod redis;

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error as DockerError;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::file_lock;
use crate::provision::SETUP_COMMAND;
use crate::subprocess::SubprocessError;
pub use recipe::RecipeError;
use recipe::{Build, Recipe};

/// The label that every image of ours carries.
pub const LABEL: (&str, &str) = ("trii.rehearsal", "1");

/// Longer than any build: whoever waits for another process waits for its result.
const LOCK_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// Where images may come from: `--images`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Supply {
    /// Pulled; built when the registry does not answer or lacks it.
    #[default]
    Auto,
    /// Pulled.
    Pull,
    /// Built.
    Build,
}

/// Where recipes are and where building may keep things.
#[derive(Clone, Debug)]
pub struct Workshop {
    /// `fixtures/images`.
    pub recipes: PathBuf,
    /// For locks and archives, e.g. `target/harness`.
    pub state_dir: PathBuf,
}

/// An image that the engine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    /// Its repository, e.g. `trii-rehearsal/postgres`.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// How it was had this time.
    pub had: Had,
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

/// How an image was had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Had {
    /// It was there already.
    Present,
    /// It was pulled.
    Pulled,
    /// It was built.
    Built {
        /// Why it was not pulled, when that was tried.
        instead_of_pull: Option<String>,
    },
}

/// An image cannot be had.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ImageError {
    /// Its recipe cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Recipe(#[from] RecipeError),
    /// The engine did not do what it was asked.
    #[error("the engine cannot {what}: {source}")]
    #[diagnostic(code(images::engine), help("is it still there? `docker version`"))]
    Engine {
        /// What was asked.
        what: String,
        /// Its answer.
        source: DockerError,
    },
    /// Only a pull was allowed, and it failed.
    #[error("cannot pull {reference}: {why}")]
    #[diagnostic(
        code(images::pull),
        help("`--images auto` builds what cannot be pulled")
    )]
    Pull {
        /// What was pulled.
        reference: String,
        /// What the engine said.
        why: String,
    },
    /// The builder is not installed.
    #[error("cannot build the image `{name}`: mmdebstrap is not on PATH")]
    #[diagnostic(
        code(images::no_builder),
        help("{SETUP_COMMAND} installs it on Debian and Ubuntu; elsewhere use `--images pull`")
    )]
    NoBuilder {
        /// The image.
        name: String,
    },
    /// mmdebstrap failed.
    #[error("cannot build the image `{name}`: {source}")]
    #[diagnostic(
        code(images::bootstrap),
        help("do the package mirrors answer? `apt-get update`")
    )]
    Bootstrap {
        /// The image.
        name: String,
        /// How it failed.
        source: SubprocessError,
    },
    /// A step of a Dockerfile failed.
    #[error("cannot build the image `{name}`: {why}; the build's last words:\n{last_lines}")]
    #[diagnostic(code(images::build), help("its recipe is fixtures/images/{name}"))]
    Build {
        /// The image.
        name: String,
        /// What the engine said.
        why: String,
        /// The last lines of the build.
        last_lines: String,
    },
    /// A file could not be handled.
    #[error("cannot {what}: {source}")]
    #[diagnostic(code(images::io))]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Sees to it that the engine has the image `name` and tells its reference.
/// Lines of progress, for a person, go to `progress`.
///
/// Two processes that want the same image build it once.
///
/// # Errors
/// [`ImageError`].
pub async fn ensure(
    engine: &Engine,
    workshop: &Workshop,
    name: &str,
    supply: Supply,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<ImageReference, ImageError> {
    let recipe = Recipe::read(&workshop.recipes, name)?;
    if let Some(reference) = present(engine, &recipe, supply).await? {
        return Ok(reference);
    }
    if supply == Supply::Pull {
        return pull(engine, &recipe, progress).await;
    }
    let instead_of_pull = match supply {
        Supply::Auto => match pull(engine, &recipe, progress).await {
            Ok(reference) => return Ok(reference),
            Err(error) => {
                progress(&format!("{error}; building it instead"));
                Some(error.to_string())
            }
        },
        Supply::Pull | Supply::Build => None,
    };
    let built = Box::pin(built(engine, workshop, &recipe, progress)).await?;
    Ok(match built.had {
        Had::Built { .. } => ImageReference {
            had: Had::Built { instead_of_pull },
            ..built
        },
        Had::Present | Had::Pulled => built,
    })
}

/// The built image, from what it is built upon up.
async fn built(
    engine: &Engine,
    workshop: &Workshop,
    recipe: &Recipe,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<ImageReference, ImageError> {
    if let Some(reference) = present(engine, recipe, Supply::Build).await? {
        return Ok(reference);
    }
    let _lock = workshop.lock(&recipe.name).await?;
    // Whoever held the lock may have built it.
    if let Some(reference) = present(engine, recipe, Supply::Build).await? {
        return Ok(reference);
    }
    progress(&format!("building the image {}", recipe.name));
    match &recipe.build {
        Build::Debian { debian, include } => {
            build::debian(engine, workshop, recipe, debian, include, progress).await?;
        }
        Build::Dockerfile { from } => {
            let base = Box::pin(built(engine, workshop, from, progress)).await?;
            build::dockerfile(engine, recipe, &base, progress).await?;
        }
    }
    Ok(recipe.built_reference(Had::Built {
        instead_of_pull: None,
    }))
}

async fn pull(
    engine: &Engine,
    recipe: &Recipe,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<ImageReference, ImageError> {
    let wanted = recipe.pulled_reference(Had::Pulled);
    progress(&format!("pulling {wanted}"));
    match pull::pull(engine, &wanted).await {
        Ok(()) => Ok(wanted),
        Err(why) => Err(ImageError::Pull {
            reference: wanted.to_string(),
            why,
        }),
    }
}

/// The image when the engine has it from a supply that is allowed.
/// The image if the engine has it already, or if it can be pulled: what takes seconds.
///
/// # Errors
/// As [`ensure`].
pub async fn at_hand(
    engine: &Engine,
    workshop: &Workshop,
    name: &str,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<ImageReference, ImageError> {
    let recipe = Recipe::read(&workshop.recipes, name)?;
    match present(engine, &recipe, Supply::Auto).await? {
        Some(reference) => Ok(reference),
        None => pull(engine, &recipe, progress).await,
    }
}

async fn present(
    engine: &Engine,
    recipe: &Recipe,
    supply: Supply,
) -> Result<Option<ImageReference>, ImageError> {
    let pulled = recipe.pulled_reference(Had::Present);
    let built = recipe.built_reference(Had::Present);
    let allowed = match supply {
        Supply::Auto => vec![pulled, built],
        Supply::Pull => vec![pulled],
        Supply::Build => vec![built],
    };
    for reference in allowed {
        match engine.client().inspect_image(&reference.to_string()).await {
            Ok(_) => return Ok(Some(reference)),
            Err(DockerError::DockerResponseServerError {
                status_code: 404, ..
            }) => {}
            Err(source) => {
                return Err(ImageError::Engine {
                    what: format!("look for the image {reference}"),
                    source,
                });
            }
        }
    }
    Ok(None)
}

impl Workshop {
    async fn lock(&self, name: &str) -> Result<File, ImageError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| ImageError::Io { what, source }
        };
        std::fs::create_dir_all(&self.state_dir).map_err(io("make the state directory"))?;
        let path = self.state_dir.join(format!("image-{name}.lock"));
        let lock = file_lock::lock(&path, LOCK_DEADLINE).await;
        lock.map_err(io("wait for another build of the same image"))
    }
}
