//! The version of a backing service that is a container.

use std::path::Path;

use crate::config::MajorVersion;
use machine::images;

/// Checks that the recipe of a backing service has this version.
///
/// # Errors
/// What the recipe has instead.
pub fn check(recipes: &Path, recipe: &str, version: &MajorVersion) -> Result<(), String> {
    let pulled = images::pulled_as(recipes, recipe).map_err(|error| error.to_string())?;
    match pulled {
        Some((_, tag)) if version.includes(&tag) => Ok(()),
        Some((reference, _)) => Err(format!("fixtures/images/{recipe} has {reference}")),
        None => Err(format!("fixtures/images/{recipe} names no image to pull")),
    }
}
