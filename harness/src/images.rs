//! How each image is had: pulled, or built where no registry answers.
//!
//! `fixtures/images/<name>/image.toml` names both supplies. A built image is
//! tagged by the hash of all that makes it, so unchanged content is never built
//! again and changed content is never mistaken for it. docs/images.md explains the recipes.

mod apt_sources;
mod archive;
mod build;
mod cargo;
mod context;
mod debian;
mod dockerfile;
mod error;
pub(crate) mod exec;
mod go;
mod list;
mod load;
mod preload;
mod pull;
mod recipe;
pub mod redis;
mod schema;
mod split;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::errors::Error as DockerError;
use bollard::models::ImageInspect;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::file_lock;
use crate::home::Home;
pub use error::ImageError;
pub use list::{Listed, Local, list};
pub use load::{ForNodes, Loaded, load};
use recipe::Recipe;
pub use recipe::RecipeError;
pub use split::{Built, Split};

/// The label that every image of ours carries.
pub const LABEL: (&str, &str) = ("trii.rehearsal", "1");

/// Longer than any build: whoever waits for another process waits for its result.
const LOCK_DEADLINE: Duration = Duration::from_secs(90 * 60);

/// How many images are had at the same time: while one compiles, another installs
/// packages or is pulled.
const AT_ONCE: usize = 2;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
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
    match without_building(engine, &recipe, supply, progress).await? {
        Without::Had(reference) => Ok(reference),
        Without::MustBeBuilt { instead_of_pull } => {
            let order = build::order([&recipe]);
            let built = build::all(engine, workshop, &order, progress).await?;
            Ok(reference_of(&recipe, &built, instead_of_pull))
        }
    }
}

/// Sees to it that the nodes of a kind cluster have the image `name`, and tells its reference,
/// as pods name it.
///
/// # Errors
/// [`ImageError`].
pub async fn on_nodes(
    engine: &Engine,
    workshop: &Workshop,
    cluster: &str,
    name: &str,
    supply: Supply,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, ImageError> {
    let image = ensure(engine, workshop, name, supply, progress).await?;
    load(engine, cluster, &[ForNodes::as_it_is(&image)], progress).await?;
    Ok(image.to_string())
}

/// An image that had to be built, by us or by somebody we waited for.
fn reference_of(
    recipe: &Recipe,
    built: &[Built],
    instead_of_pull: Option<String>,
) -> ImageReference {
    let by_us = built.iter().any(|built| built.name == recipe.name);
    recipe.built_reference(match by_us {
        true => Had::Built { instead_of_pull },
        false => Had::Present,
    })
}

/// Images that the engine has, and what it took.
#[derive(Clone, Debug)]
pub struct Supplied {
    /// In the order in which they were asked for.
    pub images: Vec<ImageReference>,
    /// What was built for that.
    pub split: Split,
}

/// Sees to it that the engine has each image of `names`, or of [`main_names`] where
/// there are none, two at a time.
///
/// # Errors
/// [`ImageError`]: the first; what was had until then stays.
pub async fn ensure_all(
    engine: &Engine,
    workshop: &Workshop,
    names: &[String],
    supply: Supply,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Supplied, ImageError> {
    let begun = Instant::now();
    let names = match names {
        [] => &main_names(workshop)?,
        names => names,
    };
    let recipes: Vec<Recipe> = names
        .iter()
        .map(|name| Recipe::read(&workshop.recipes, name))
        .collect::<Result<_, _>>()?;
    let without: Vec<Without> = futures::stream::iter(&recipes)
        .map(|recipe| without_building(engine, recipe, supply, progress))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let pairs = || recipes.iter().zip(&without);
    let order = build::order(
        pairs()
            .filter(|(_, without)| matches!(without, Without::MustBeBuilt { .. }))
            .map(|(recipe, _)| recipe),
    );
    let built = build::all(engine, workshop, &order, progress).await?;
    let images = pairs().map(|(recipe, without)| match without.clone() {
        Without::Had(reference) => reference,
        Without::MustBeBuilt { instead_of_pull } => reference_of(recipe, &built, instead_of_pull),
    });
    Ok(Supplied {
        images: images.collect(),
        split: Split {
            built,
            millis: begun.elapsed().as_millis() as u64,
        },
    })
}

/// The images that are wanted for themselves: no other is built upon them.
///
/// # Errors
/// [`RecipeError`].
pub fn main_names(workshop: &Workshop) -> Result<Vec<String>, RecipeError> {
    let listed = recipe::names(&workshop.recipes)?;
    let recipes: Vec<Recipe> = listed
        .iter()
        .map(|name| Recipe::read(&workshop.recipes, name))
        .collect::<Result<_, _>>()?;
    let is_below = |name: &String| {
        let mut below = recipes.iter().flat_map(Recipe::below);
        below.any(|recipe| recipe.name == *name)
    };
    Ok(listed.into_iter().filter(|name| !is_below(name)).collect())
}

/// The image of a kind node that runs this minor version of Kubernetes: its recipe says
/// its version in a file `version`, as the node itself does.
///
/// # Errors
/// [`RecipeError`]; [`RecipeError::NoNode`] names the versions there are.
pub fn node(workshop: &Workshop, kubernetes: &str) -> Result<String, RecipeError> {
    let mut there = Vec::new();
    for name in recipe::names(&workshop.recipes)? {
        let version = std::fs::read_to_string(workshop.recipes.join(&name).join("version"));
        let Ok(version) = version else { continue };
        let version = version.trim().trim_start_matches('v').to_owned();
        if version.starts_with(&format!("{kubernetes}.")) {
            return Ok(name);
        }
        there.push(version);
    }
    Err(RecipeError::NoNode {
        kubernetes: kubernetes.to_owned(),
        there: there.join(", "),
    })
}

/// How far one gets without building.
#[derive(Clone)]
enum Without {
    Had(ImageReference),
    MustBeBuilt { instead_of_pull: Option<String> },
}

async fn without_building(
    engine: &Engine,
    recipe: &Recipe,
    supply: Supply,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Without, ImageError> {
    if let Some(reference) = present(engine, recipe, supply).await? {
        return Ok(Without::Had(reference));
    }
    let pulled = match supply {
        Supply::Build => None,
        Supply::Pull => Some(pull(engine, recipe, progress).await),
        Supply::Auto if recipe.pulled_reference(Had::Pulled).is_none() => None,
        Supply::Auto => Some(pull(engine, recipe, progress).await),
    };
    match pulled {
        Some(Ok(reference)) => Ok(Without::Had(reference)),
        Some(Err(error)) if supply == Supply::Pull => Err(error),
        failed => {
            let instead_of_pull = failed.and_then(Result::err).map(|error| error.to_string());
            if let Some(why) = &instead_of_pull {
                progress(&format!("{why}; building it instead"));
            }
            Ok(Without::MustBeBuilt { instead_of_pull })
        }
    }
}

async fn pull(
    engine: &Engine,
    recipe: &Recipe,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<ImageReference, ImageError> {
    let wanted = recipe.pulled_reference(Had::Pulled);
    let wanted = wanted.ok_or_else(|| ImageError::InNoRegistry {
        name: recipe.name.clone(),
    })?;
    progress(&format!("pulling {wanted}"));
    match pull::pull(engine, &wanted).await {
        Ok(()) => Ok(wanted),
        Err(why) => Err(ImageError::Pull {
            reference: wanted.to_string(),
            why,
        }),
    }
}

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

/// The image when the engine has it from a supply that is allowed.
async fn present(
    engine: &Engine,
    recipe: &Recipe,
    supply: Supply,
) -> Result<Option<ImageReference>, ImageError> {
    let pulled = recipe.pulled_reference(Had::Present);
    let built = recipe.built_reference(Had::Present);
    let allowed = match supply {
        Supply::Auto => [pulled, Some(built)],
        Supply::Pull => [pulled, None],
        Supply::Build => [None, Some(built)],
    };
    for reference in allowed.into_iter().flatten() {
        if size(engine, &reference).await?.is_some() {
            return Ok(Some(reference));
        }
    }
    Ok(None)
}

/// Whether the engine has an image of this reference.
///
/// # Errors
/// [`ImageError::Engine`].
pub async fn is_here(engine: &Engine, reference: &str) -> Result<bool, ImageError> {
    Ok(inspect(engine, reference).await?.is_some())
}

/// How large the image is, bytes; none when the engine does not have it.
async fn size(engine: &Engine, image: &ImageReference) -> Result<Option<u64>, ImageError> {
    let found = inspect(engine, &image.to_string()).await?;
    let size = |found: ImageInspect| found.size.and_then(|size| size.try_into().ok());
    Ok(found.map(|found| size(found).unwrap_or(0)))
}

/// What the engine says of an image; none when it does not have it.
async fn inspect(engine: &Engine, reference: &str) -> Result<Option<ImageInspect>, ImageError> {
    match engine.client().inspect_image(reference).await {
        Ok(found) => Ok(Some(found)),
        Err(DockerError::DockerResponseServerError {
            status_code: 404, ..
        }) => Ok(None),
        Err(source) => Err(ImageError::Engine {
            what: format!("look for the image {reference}"),
            source,
        }),
    }
}

impl Workshop {
    /// The repository's recipes, built in the harness home.
    pub fn of(workspace: &Path, home: &Home) -> Workshop {
        Workshop {
            recipes: workspace.join("fixtures/images"),
            state_dir: home.state(),
        }
    }

    async fn lock(&self, name: &str, progress: &(dyn Fn(&str) + Sync)) -> Result<File, ImageError> {
        let path = self.state_dir.join(format!("image-{name}.lock"));
        let lock = file_lock::lock(&path, LOCK_DEADLINE, progress).await;
        lock.map_err(|error| {
            ImageError::io("wait for another build of the same image")(error.into())
        })
    }
}
