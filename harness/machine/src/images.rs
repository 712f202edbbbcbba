//! How each image is obtained: pulled, or built if no registry answers.
//!
//! `fixtures/images/<name>/image.toml` names both supplies. The tag of a built image is the hash of
//! all that it is built from, so an image is built again exactly if something has changed.
//! docs/images.md explains the recipes.

mod apt_sources;
mod archive;
mod availability;
mod build;
mod build_folder;
mod build_times;
mod cargo;
mod context;
mod credentials;
mod debian;
mod dockerfile;
mod error;
pub mod exec;
mod go;
mod list;
mod load;
mod preload;
mod pull;
mod recipe;
pub mod redis;
mod reference;
pub mod registry;
mod schema;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::models::ImageInspect;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::containers::refusal;
use crate::engine::Engine;
use crate::engine::candidates::Surroundings;
pub use availability::ImageAvailability;
use base::file_lock;
use base::home::Home;
use base::ledger::Ledger;
pub use build_times::{BuildTimes, Built};
pub use error::ImageError;
pub use list::{Listed, Local, list};
pub use load::{ForNodes, Loaded, load};
use recipe::Recipe;
pub use recipe::RecipeError;
use reference::PullReference;

/// The label of all images that the harness builds.
pub const LABEL: (&str, &str) = ("trii.rehearsal", "1");

/// The prefix of the ledger's name for the build of an image.
pub const BUILDS: &str = "images/";

/// Longer than any build: a process that waits for another one waits for its result.
const LOCK_DEADLINE: Duration = Duration::from_secs(90 * 60);

/// How many images are pulled or built at the same time. While one compiles, another installs
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

/// Where recipes are, and where builds keep files.
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
    /// How it was obtained this time.
    pub had: Obtained,
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

/// How an image was obtained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obtained {
    /// The engine had it already.
    Present,
    /// It was pulled.
    Pulled,
    /// It was built.
    Built {
        /// Why the pull failed, if there was one.
        instead_of_pull: Option<String>,
    },
}

/// Ensures that the engine has the image `name`, and returns its reference. Lines of progress go
/// to `progress`.
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
        Without::Obtained(reference) => Ok(reference),
        Without::MustBeBuilt { instead_of_pull } => {
            let order = build::order([&recipe]);
            let built = build::all(engine, workshop, &order, progress).await?;
            Ok(reference_of(&recipe, &built, instead_of_pull))
        }
    }
}

/// Ensures that the nodes of a kind cluster have the image `name`, and returns its reference, as
/// pods name it.
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

/// Returns an image that this process or another one built.
fn reference_of(
    recipe: &Recipe,
    built: &[Built],
    instead_of_pull: Option<String>,
) -> ImageReference {
    let is_ours = built.iter().any(|built| built.name == recipe.name);
    recipe.built_reference(match is_ours {
        true => Obtained::Built { instead_of_pull },
        false => Obtained::Present,
    })
}

/// Images that the engine has, and what was built for them.
#[derive(Clone, Debug)]
pub struct Supplied {
    /// In the order of the requested names.
    pub images: Vec<ImageReference>,
    /// What was built for that.
    pub split: BuildTimes,
}

/// Ensures that the engine has each image of `names`, or of [`main_names`] if there are none, two
/// at a time.
///
/// # Errors
/// [`ImageError`]: the first; images obtained before stay.
pub async fn ensure_all(
    engine: &Engine,
    workshop: &Workshop,
    names: &[String],
    supply: Supply,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Supplied, ImageError> {
    let started = Instant::now();
    let names = match names {
        [] => &main_names(workshop)?,
        names => names,
    };
    let recipes = Recipe::read_all(&workshop.recipes, names)?;
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
        Without::Obtained(reference) => reference,
        Without::MustBeBuilt { instead_of_pull } => reference_of(recipe, &built, instead_of_pull),
    });
    Ok(Supplied {
        images: images.collect(),
        split: BuildTimes {
            built,
            millis: started.elapsed().as_millis() as u64,
        },
    })
}

/// Returns the names of the images that no other image is built upon.
///
/// # Errors
/// [`RecipeError`].
pub fn main_names(workshop: &Workshop) -> Result<Vec<String>, RecipeError> {
    let listed = recipe::names(&workshop.recipes)?;
    let recipes = Recipe::read_all(&workshop.recipes, &listed)?;
    let is_below = |name: &String| {
        let mut below = recipes.iter().flat_map(Recipe::below);
        below.any(|recipe| recipe.name == *name)
    };
    Ok(listed.into_iter().filter(|name| !is_below(name)).collect())
}

/// Returns the reference that the recipe `name` pulls, and its tag; none if it is only built.
///
/// # Errors
/// [`RecipeError`].
pub fn pulled_as(recipes: &Path, name: &str) -> Result<Option<(String, String)>, RecipeError> {
    let recipe = Recipe::read(recipes, name)?;
    Ok(recipe.pull.map(|it| (it.to_string(), it.tag)))
}

/// Returns the name of the kind node's image for this minor version of Kubernetes. The recipe of a
/// node has its version in a file `version`.
///
/// # Errors
/// [`RecipeError`]; [`RecipeError::NoNode`] lists the available versions.
pub fn node(workshop: &Workshop, kubernetes: &str) -> Result<String, RecipeError> {
    let mut versions = Vec::new();
    for name in recipe::names(&workshop.recipes)? {
        let version = std::fs::read_to_string(workshop.recipes.join(&name).join("version"));
        let Ok(version) = version else { continue };
        let version = version.trim().trim_start_matches('v').to_owned();
        if version.starts_with(&format!("{kubernetes}.")) {
            return Ok(name);
        }
        versions.push(version);
    }
    Err(RecipeError::NoNode {
        kubernetes: kubernetes.to_owned(),
        there: versions.join(", "),
    })
}

/// The result of an attempt without a build.
#[derive(Clone)]
enum Without {
    Obtained(ImageReference),
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
        return Ok(Without::Obtained(image));
    }
    let pulled = match supply {
        Supply::Build => None,
        Supply::Auto if recipe.pull.is_none() => None,
        Supply::Pull | Supply::Auto => Some(pull(engine, workshop, recipe, progress).await),
    };
    match pulled {
        Some(Ok(reference)) => Ok(Without::Obtained(reference)),
        Some(Err(error)) if supply == Supply::Pull => Err(error),
        failed => {
            let instead_of_pull = failed.and_then(Result::err).map(|error| error.to_string());
            if let Some(error) = &instead_of_pull {
                progress(&format!("{error}; building it instead"));
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
    let pulled = pull_reference(engine, workshop, wanted, progress).await;
    pulled.map_err(|NotPulled { why, help }| ImageError::Pull {
        reference: wanted.to_string(),
        why,
        help,
    })
}

/// The engine's error, and the remedy.
struct NotPulled {
    why: String,
    help: String,
}

async fn pull_reference(
    engine: &Engine,
    workshop: &Workshop,
    wanted: &PullReference,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<ImageReference, NotPulled> {
    progress(&format!("pulling {wanted}"));
    let stored = credentials::of_pull(engine, workshop.docker_config.as_deref(), wanted).await;
    let (credentials, unread) = match stored {
        Ok(credentials) => (credentials, None),
        Err(why) => (None, Some(why)),
    };
    match pull::pull(engine, wanted, credentials, progress).await {
        Ok(()) => Ok(wanted.image(Obtained::Pulled)),
        Err(why) => Err(NotPulled {
            help: pull::advice(wanted, &why),
            why: match unread {
                Some(unread) => format!("{why}; the request had no credentials: {unread}"),
                None => why,
            },
        }),
    }
}

/// Ensures that the engine has the image of a reference that no recipe makes, and returns its
/// reference.
///
/// # Errors
/// [`ImageError::NoImage`]: the engine neither has it nor can pull it.
pub async fn present_or_pull_reference(
    engine: &Engine,
    workshop: &Workshop,
    reference: &str,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<ImageReference, ImageError> {
    let failed = |NotPulled { why, help }| ImageError::NoImage {
        reference: reference.to_owned(),
        why,
        help,
    };
    let wanted = PullReference::parse(reference).map_err(|why| {
        let help = "pin a tag".to_owned();
        failed(NotPulled { why, help })
    })?;
    let image = wanted.image(Obtained::Present);
    let found = inspect(engine, &image.to_string()).await?;
    if found.is_some_and(|found| is_pinned(&found, &wanted)) {
        return Ok(image);
    }
    let pulled = pull_reference(engine, workshop, &wanted, progress).await;
    pulled.map_err(failed)
}

/// Checks that a text names an image with a tag: `repository:tag`, or `repository:tag@sha256:...`.
///
/// # Errors
/// A message that says what is wrong.
pub fn validate_reference(text: &str) -> Result<(), String> {
    PullReference::parse(text).map(drop)
}

/// Returns the image if the engine has it or can pull it. Builds nothing.
///
/// # Errors
/// As [`ensure`].
pub async fn present_or_pull(
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

/// Returns the image if the engine has it from a supply that is allowed.
async fn present(
    engine: &Engine,
    recipe: &Recipe,
    supply: Supply,
) -> Result<Option<ImageReference>, ImageError> {
    let found = found(engine, recipe, supply).await?;
    Ok(found.into_iter().next().map(|(image, _)| image))
}

/// Returns the versions of the image that the engine has from the allowed supplies, the best first.
/// A pulled one must have the pinned digest, if there is one.
async fn found(
    engine: &Engine,
    recipe: &Recipe,
    supply: Supply,
) -> Result<Vec<(ImageReference, ImageInspect)>, ImageError> {
    let mut images = Vec::new();
    if let Some(wanted) = recipe.pull.as_ref().filter(|_| supply != Supply::Build) {
        let image = wanted.image(Obtained::Present);
        let found = inspect(engine, &image.to_string()).await?;
        let found = found.filter(|found| is_pinned(found, wanted));
        images.extend(found.map(|found| (image, found)));
    }
    if supply != Supply::Pull {
        let image = recipe.built_reference(Obtained::Present);
        let found = inspect(engine, &image.to_string()).await?;
        images.extend(found.map(|found| (image, found)));
    }
    Ok(images)
}

/// Returns whether the image has the digest of the reference. A reference without one matches.
fn is_pinned(found: &ImageInspect, wanted: &PullReference) -> bool {
    wanted.digest.as_ref().is_none_or(|digest| {
        let names = found.repo_digests.iter().flatten();
        let mut digests = names.filter_map(|name| name.split_once('@'));
        digests.any(|(_, known)| known == digest)
    })
}

/// Returns whether the engine has an image of this reference.
///
/// # Errors
/// [`ImageError::Engine`].
pub async fn is_here(engine: &Engine, reference: &str) -> Result<bool, ImageError> {
    Ok(inspect(engine, reference).await?.is_some())
}

/// Returns the engine's description of an image; none if it does not have it.
async fn inspect(engine: &Engine, reference: &str) -> Result<Option<ImageInspect>, ImageError> {
    match engine.client().inspect_image(reference).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if refusal(&error) == Some(404) => Ok(None),
        Err(source) => Err(ImageError::Engine {
            what: format!("look for the image {reference}"),
            source,
        }),
    }
}

impl Workshop {
    /// Returns the repository's recipes, with builds in the harness home.
    pub fn of(workspace: &Path, home: &Home) -> Workshop {
        Workshop {
            recipes: workspace.join("fixtures/images"),
            state_dir: home.state(),
            docker_config: Surroundings::of_this_process().docker_config(),
        }
    }

    fn ledger(&self) -> Ledger {
        Ledger::at(self.home().ledger())
    }

    /// Returns what the ledger and labels have in place of an environment's name while an image is
    /// built. No environment has such a name.
    fn build_of(image: &str) -> String {
        format!("{BUILDS}{image}")
    }

    fn home(&self) -> Home {
        Home::new(self.state_dir.parent().unwrap_or(&self.state_dir))
    }

    async fn lock(&self, name: &str, progress: &(dyn Fn(&str) + Sync)) -> Result<File, ImageError> {
        let path = self.state_dir.join(format!("image-{name}.lock"));
        let lock = file_lock::lock(&path, LOCK_DEADLINE, progress).await;
        lock.map_err(|error| {
            ImageError::io("wait for another build of the same image")(error.into())
        })
    }
}
