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
mod credentials;
mod debian;
mod dockerfile;
mod error;
pub(crate) mod exec;
mod go;
mod list;
mod load;
mod means;
mod preload;
mod pull;
mod recipe;
pub mod redis;
mod reference;
mod room;
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
use crate::engine::candidates::Surroundings;
use crate::file_lock;
use crate::home::Home;
use crate::ledger::Ledger;
pub use error::ImageError;
pub use list::{Listed, Local, list};
pub use load::{ForNodes, Loaded, load};
pub use means::Means;
use recipe::Recipe;
pub use recipe::RecipeError;
use reference::PullReference;
pub use split::{Built, Split};

/// The label that every image of ours carries.
pub const LABEL: (&str, &str) = ("trii.rehearsal", "1");

/// Begins what the ledger calls the building of an image.
pub(crate) const BUILDS: &str = "images/";

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
    /// Where `docker login` stores credentials, e.g. `~/.docker`.
    pub docker_config: Option<PathBuf>,
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
    match without_building(engine, workshop, &recipe, supply, progress).await? {
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
        .map(|recipe| without_building(engine, workshop, recipe, supply, progress))
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
    workshop: &Workshop,
    recipe: &Recipe,
    supply: Supply,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Without, ImageError> {
    if let Some(image) = present(engine, recipe, supply).await? {
        return Ok(Without::Had(image));
    }
    let pulled = match supply {
        Supply::Build => None,
        Supply::Auto if recipe.pull.is_none() => None,
        Supply::Pull | Supply::Auto => Some(pull(engine, workshop, recipe, progress).await),
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
    workshop: &Workshop,
    recipe: &Recipe,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<ImageReference, ImageError> {
    let wanted = recipe.pull.as_ref();
    let wanted = wanted.ok_or_else(|| ImageError::InNoRegistry {
        name: recipe.name.clone(),
    })?;
    progress(&format!("pulling {wanted}"));
    let stored = credentials::of_pull(engine, workshop.docker_config.as_deref(), wanted).await;
    let (credentials, unread) = match stored {
        Ok(credentials) => (credentials, None),
        Err(why) => (None, Some(why)),
    };
    match pull::pull(engine, wanted, credentials, progress).await {
        Ok(()) => Ok(wanted.image(Had::Pulled)),
        Err(why) => Err(ImageError::Pull {
            reference: wanted.to_string(),
            help: pull::advice(wanted, &why),
            why: match unread {
                Some(unread) => format!("{why}; it was asked without credentials: {unread}"),
                None => why,
            },
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
        Some(image) => Ok(image),
        None => pull(engine, workshop, &recipe, progress).await,
    }
}

/// The image when the engine has it from a supply that is allowed.
async fn present(
    engine: &Engine,
    recipe: &Recipe,
    supply: Supply,
) -> Result<Option<ImageReference>, ImageError> {
    let there = found(engine, recipe, supply).await?;
    Ok(there.into_iter().next().map(|(image, _)| image))
}

/// What the engine has of the image, from the supplies that are allowed, the best first.
/// A pulled one that a digest pins counts if it is that very one.
async fn found(
    engine: &Engine,
    recipe: &Recipe,
    supply: Supply,
) -> Result<Vec<(ImageReference, ImageInspect)>, ImageError> {
    let mut there = Vec::new();
    if let Some(wanted) = recipe.pull.as_ref().filter(|_| supply != Supply::Build) {
        let image = wanted.image(Had::Present);
        let found = inspect(engine, &image.to_string()).await?;
        there.extend(
            found
                .filter(|found| is_pinned(found, wanted))
                .map(|found| (image, found)),
        );
    }
    if supply != Supply::Pull {
        let image = recipe.built_reference(Had::Present);
        let found = inspect(engine, &image.to_string()).await?;
        there.extend(found.map(|found| (image, found)));
    }
    Ok(there)
}

/// Whether the image is the one of the reference's digest, if that has one.
fn is_pinned(found: &ImageInspect, wanted: &PullReference) -> bool {
    wanted.digest.as_ref().is_none_or(|digest| {
        let mut known = found.repo_digests.iter().flatten();
        known.any(|known| {
            known
                .split_once('@')
                .is_some_and(|(_, known)| known == digest)
        })
    })
}

/// Whether the engine has an image of this reference.
///
/// # Errors
/// [`ImageError::Engine`].
pub async fn is_here(engine: &Engine, reference: &str) -> Result<bool, ImageError> {
    Ok(inspect(engine, reference).await?.is_some())
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
            docker_config: Surroundings::of_this_process().docker_config(),
        }
    }

    /// Where what building makes is written down: that of the home whose state directory
    /// this is.
    fn ledger(&self) -> Ledger {
        Ledger::at(self.home().ledger())
    }

    /// What the ledger and labels call the building of an image, where else an environment
    /// stands: no environment has such a name.
    fn build_of(image: &str) -> String {
        format!("{BUILDS}{image}")
    }

    fn home(&self) -> Home {
        let root = self.state_dir.parent().unwrap_or(&self.state_dir);
        Home::new(root)
    }

    async fn lock(&self, name: &str, progress: &(dyn Fn(&str) + Sync)) -> Result<File, ImageError> {
        let path = self.state_dir.join(format!("image-{name}.lock"));
        let lock = file_lock::lock(&path, LOCK_DEADLINE, progress).await;
        lock.map_err(|error| {
            ImageError::io("wait for another build of the same image")(error.into())
        })
    }
}
