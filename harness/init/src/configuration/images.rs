//! `[images]`.

use std::collections::BTreeSet;

use super::{key, quoted};
use crate::draft::Draft;
use crate::inventory::{FoundImage, Inventory};

/// An image with a recipe is a table. All others are examples.
pub(super) fn write(
    draft: &mut Draft,
    inventory: &Inventory,
    recipes: &BTreeSet<String>,
    version: &str,
) {
    let mut supplied = BTreeSet::new();
    let (with, without): (Vec<&FoundImage>, Vec<&FoundImage>) =
        inventory.images.iter().partition(|image| {
            let recipe = image.short_name();
            // A node cannot be given an image by its digest.
            recipes.contains(recipe) && !image.name.contains('@') && supplied.insert(recipe)
        });
    if !with.is_empty() {
        draft.blank();
        draft.comment(
            "fixtures/images has a recipe of these names. The nodes get its image under the name that \
             pods use. Remove a table whose image is another one: the nodes then pull it.",
        );
    }
    for image in with {
        draft.table(&table(image, version));
    }
    if without.is_empty() {
        return;
    }
    draft.blank();
    draft.comment(
        "The nodes pull these images. For a machine without a registry, give each a recipe in \
         fixtures/images (docs/images.md), and name it here:",
    );
    for image in without {
        draft.example(&table(image, version));
    }
}

fn table(image: &FoundImage, version: &str) -> String {
    let name = image.with_tag();
    let name = match name.strip_suffix(version).filter(|it| it.ends_with(':')) {
        Some(repository) => format!("{repository}{{version}}"),
        None => name,
    };
    format!(
        "[images.{}]\nname = {}\n",
        key(image.short_name()),
        quoted(&name)
    )
}
