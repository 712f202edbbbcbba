//! Lists the images and which of them the engine has.

use serde::Serialize;

use super::recipe::{self, Recipe};
use super::{ImageError, Supply, Workshop, found};
use crate::engine::Engine;

/// An image and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name: its directory in `fixtures/images`.
    pub name: String,
    /// The hash of all that it is built from.
    pub hash: String,
    /// The reference to pull; none if no registry has it.
    pub pull: Option<String>,
    /// The engine's versions of it: pulled, built, or both.
    pub here: Vec<Local>,
    /// The images that are built upon it or include it.
    pub part_of: Vec<String>,
}

/// An image that the engine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Local {
    /// Its reference.
    pub reference: String,
    /// Its size, bytes.
    pub bytes: u64,
}

/// Returns every image, sorted by name.
///
/// # Errors
/// [`ImageError`].
pub async fn list(engine: &Engine, workshop: &Workshop) -> Result<Vec<Listed>, ImageError> {
    let names = recipe::names(&workshop.recipes)?;
    let recipes = Recipe::read_all(&workshop.recipes, &names)?;
    let mut listed = Vec::new();
    for recipe in &recipes {
        let mut here = Vec::new();
        for (image, found) in found(engine, recipe, Supply::Auto).await? {
            let bytes = found.size.and_then(|size| size.try_into().ok());
            here.push(Local {
                reference: image.to_string(),
                bytes: bytes.unwrap_or(0),
            });
        }
        let above = recipes
            .iter()
            .filter(|other| other.below().any(|below| below.name == recipe.name));
        listed.push(Listed {
            name: recipe.name.clone(),
            hash: recipe.hash(),
            pull: recipe.pull.as_ref().map(ToString::to_string),
            here,
            part_of: above.map(|other| other.name.clone()).collect(),
        });
    }
    Ok(listed)
}
