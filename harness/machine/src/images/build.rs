//! Builds images, each after the images that it is built upon.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};

use super::build_folder::BuildFolder;
use super::build_times::Built;
use super::context::{self, Addition, FileKind};
use super::go::Go;
use super::recipe::{Build, Dockerfile, Recipe};
use super::{AT_ONCE, ImageError, ImageReference, Obtained, Supply, Workshop};
use super::{cargo, debian, dockerfile, go, preload, present};
use crate::engine::Engine;
use base::duration::human;

/// Returns `roots` and all that they are built upon, each once, in the order of the builds.
pub(super) fn order<'a>(roots: impl IntoIterator<Item = &'a Recipe>) -> Vec<&'a Recipe> {
    fn visit<'a>(recipe: &'a Recipe, order: &mut Vec<&'a Recipe>) {
        if order.iter().any(|known| known.name == recipe.name) {
            return;
        }
        for below in recipe.below() {
            visit(below, order);
        }
        order.push(recipe);
    }
    let mut order = Vec::new();
    for root in roots {
        visit(root, &mut order);
    }
    order
}

/// Builds the missing images of `order`, two at a time. Returns those that it built.
pub(super) async fn all(
    engine: &Engine,
    workshop: &Workshop,
    order: &[&Recipe],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Built>, ImageError> {
    let split = Mutex::new(Vec::new());
    futures::stream::iter(order)
        .map(async |recipe| {
            let progress = |line: &str| progress(&format!("{}: {line}", recipe.name));
            built(engine, workshop, recipe, &split, &progress).await
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(async |_| Ok(()))
        .await?;
    go::tidy_cache(workshop)?;
    Ok(split.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Returns the built image. Builds it, after what it is built upon, if the engine does not have it.
/// Waits for the lock if another process is building it.
async fn built(
    engine: &Engine,
    workshop: &Workshop,
    recipe: &Recipe,
    split: &Mutex<Vec<Built>>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<ImageReference, ImageError> {
    if let Some(reference) = present(engine, recipe, Supply::Build).await? {
        return Ok(reference);
    }
    let _lock = workshop.lock(&recipe.name, progress).await?;
    // The previous owner of the lock may have built it.
    if let Some(reference) = present(engine, recipe, Supply::Build).await? {
        return Ok(reference);
    }
    let mut started = Instant::now();
    match &recipe.build {
        Build::Debian { debian, include } => {
            progress("installing a minimal Debian");
            debian::build(engine, workshop, recipe, debian, include, progress).await?;
        }
        Build::Dockerfile(dockerfile) => {
            let below =
                async |recipe| Box::pin(built(engine, workshop, recipe, split, progress)).await;
            let mut from = BTreeMap::new();
            for (argument, recipe) in &dockerfile.from {
                from.insert(argument.clone(), below(recipe).await?);
            }
            let mut images = Vec::new();
            for recipe in &dockerfile.preload {
                images.push((recipe.name.as_str(), below(recipe).await?));
            }
            // The time of what it is built upon is reported separately.
            started = Instant::now();
            let target = recipe.built_reference(Obtained::Present);
            let name = match images.is_empty() {
                true => target.to_string(),
                false => format!("{target}-bare"),
            };
            with_context(engine, workshop, recipe, dockerfile, &from, &name, progress).await?;
            if !images.is_empty() {
                let recipe = &recipe.name;
                preload::preload(engine, workshop, recipe, &name, &target, &images, progress)
                    .await?;
            }
        }
    }
    let millis = started.elapsed().as_millis() as u64;
    progress(&format!("built in {}", human(millis)));
    let name = recipe.name.clone();
    let mut all = split.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(Built { name, millis });
    Ok(recipe.built_reference(Obtained::Built {
        instead_of_pull: None,
    }))
}

/// Builds the Dockerfile with its context as `target`.
async fn with_context(
    engine: &Engine,
    workshop: &Workshop,
    recipe: &Recipe,
    dockerfile: &Dockerfile,
    from: &BTreeMap<String, ImageReference>,
    target: &str,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ImageError> {
    let room = BuildFolder::new(workshop, &recipe.name).await?;
    let additions = additions(workshop, recipe, dockerfile, &room, progress).await?;
    progress("building the image");
    let archive = room.path().join("context.tar");
    context::pack(&recipe.files, &additions, &archive)
        .await
        .map_err(ImageError::io("pack the context of an image"))?;
    dockerfile::build(engine, recipe, target, &archive, from, progress).await?;
    room.close().await
}

/// Compiles and downloads what the context has besides the recipe's files.
async fn additions(
    workshop: &Workshop,
    recipe: &Recipe,
    dockerfile: &Dockerfile,
    room: &BuildFolder,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Addition>, ImageError> {
    let name = recipe.name.as_str();
    let bin = room.path().join("bin");
    std::fs::create_dir(&bin).map_err(ImageError::io("make a directory for programs"))?;
    let mut additions = Vec::new();
    if let Some(program) = &dockerfile.cargo {
        progress("compiling");
        let workspace = &dockerfile.workspace;
        let binary = cargo::build(workshop, room, name, workspace, program, progress).await?;
        tokio::fs::copy(&binary, bin.join(&program.package))
            .await
            .map_err(ImageError::io("copy a compiled program"))?;
    }
    if !dockerfile.go.is_empty() || !dockerfile.module_files.is_empty() {
        let go = Go::find(workshop, name, room, progress).await?;
        for (number, programs) in dockerfile.go.iter().enumerate() {
            progress("compiling");
            go.compile(recipe, programs, number, &bin, progress).await?;
        }
        for files in &dockerfile.module_files {
            additions.push(Addition {
                from: go.files_of(files).await?,
                to: files.to.clone(),
                kind: FileKind::Files,
            });
        }
    }
    additions.push(Addition {
        from: bin,
        to: "bin".into(),
        kind: FileKind::Programs,
    });
    Ok(additions)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_image_comes_once_and_after_what_it_is_built_upon() {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/images");
        let node = Recipe::read(&ours, "kind-node").unwrap();
        let redis = Recipe::read(&ours, "redis").unwrap();
        let order: Vec<&str> = order([&redis, &node])
            .iter()
            .map(|recipe| recipe.name.as_str())
            .collect();
        let position = |name| order.iter().position(|one| *one == name).unwrap();
        assert_eq!(position("base"), 0);
        assert!(position("kubernetes") < position("kube-proxy"));
        assert_eq!(*order.last().unwrap(), "kind-node");
        let mut once = order.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), order.len());
    }
}
