//! Checks the repository's files for a target, before anything is started.

use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde_json::Value;
use thiserror::Error;

use super::ready_check;
use crate::bring_up::backing_image;
use crate::config::hurl::NamedFileError;
use crate::config::{Config, ConfigError, KindTarget, Platform, PlatformChart, ServiceImage};

/// The configuration names something that the repository does not have.
#[derive(Debug, Error, Diagnostic)]
pub enum BadInput {
    /// A file does not exist, or cannot be read.
    #[error("cannot read {} ({key}): {source}", path.display())]
    #[diagnostic(help("{key} in harness.toml names files of the repository"))]
    File {
        /// The key in harness.toml.
        key: String,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A manifest is not valid YAML.
    #[error("cannot read {}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        reason: String,
    },
    /// No manifest has the namespace.
    #[error("namespace {namespace:?} is not in platform.manifests, which have {there}")]
    #[diagnostic(help(
        "set namespace of the target in harness.toml to one of them, or add a Namespace of that name to a manifest"
    ))]
    Namespace {
        /// The namespace.
        namespace: String,
        /// The namespaces in the manifests.
        there: String,
    },
    /// A folder is not a chart.
    #[error("{} of the release {release:?} is not a chart: it has no Chart.yaml", path.display())]
    #[diagnostic(help(
        "chart in [[releases]] names a folder of the repository with a Chart.yaml, or a chart that `helm package` made"
    ))]
    Chart {
        /// The release.
        release: String,
        /// The folder.
        path: PathBuf,
    },
    /// There is no recipe of an image.
    #[error("[images.{recipe}] has no recipe: {} does not exist", path.display())]
    #[diagnostic(help("`cargo xtask images list` shows the recipes; docs/images.md adds one"))]
    Recipe {
        /// The recipe.
        recipe: String,
        /// The missing file.
        path: PathBuf,
    },
    /// A value does not fit the files of the repository.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Refused(Box<ConfigError>),
    /// The file with the requests that succeed once the platform is up.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ready(#[from] NamedFileError),
}

/// Checks that the repository has what the platform's releases on this target need.
///
/// # Errors
/// [`BadInput`].
pub fn check(
    config: &Config,
    (name, target): (&str, &KindTarget),
    workspace: &Path,
) -> Result<(), BadInput> {
    for release in &config.releases {
        // That of a registry is pulled later.
        if let PlatformChart::Path(chart) = &release.chart {
            check_chart(&release.name, &workspace.join(chart))?;
        }
        for file in &release.values {
            read("releases.values", &workspace.join(file))?;
        }
    }
    for file in &target.values {
        read(&format!("targets.{name}.values"), &workspace.join(file))?;
    }
    check_backing_services(config, &workspace.join("fixtures/images"))?;
    for recipe in config.images.keys() {
        check_recipe(recipe, workspace)?;
    }
    ready_check::read(config, workspace)?;
    let there = namespaces_of(&config.platform, workspace)?;
    match there.is_empty() || there.contains(&target.namespace) {
        true => Ok(()),
        false => Err(BadInput::Namespace {
            namespace: target.namespace.clone(),
            there: there.join(", "),
        }),
    }
}

fn check_backing_services(config: &Config, recipes: &Path) -> Result<(), BadInput> {
    for (recipe, version) in config.backing_services.versions() {
        if let Err(reason) = backing_image::check(recipes, recipe, version) {
            let message = format!("this version is not available: {reason}");
            let help = format!("pin another image in fixtures/images/{recipe}/image.toml");
            let refused = config.refuse(version.place.clone(), message, Some(help));
            return Err(BadInput::Refused(Box::new(refused)));
        }
    }
    Ok(())
}

/// Checks that the repository has the recipes of the services that are containers on a local target.
///
/// # Errors
/// [`BadInput::Recipe`].
pub fn check_services(config: &Config, workspace: &Path) -> Result<(), BadInput> {
    for (_, image) in config.containers() {
        if let ServiceImage::Recipe(recipe) = image {
            check_recipe(&recipe, workspace)?;
        }
    }
    Ok(())
}

fn check_recipe(recipe: &str, workspace: &Path) -> Result<(), BadInput> {
    let recipes = workspace.join("fixtures/images");
    let path = recipes.join(recipe).join("image.toml");
    match path.is_file() {
        true => Ok(()),
        false => Err(BadInput::Recipe {
            recipe: recipe.to_owned(),
            path,
        }),
    }
}

fn check_chart(release: &str, path: &Path) -> Result<(), BadInput> {
    if !path.is_dir() {
        return read_bytes("releases.chart", path).map(drop);
    }
    match path.join("Chart.yaml").is_file() {
        true => Ok(()),
        false => Err(BadInput::Chart {
            release: release.to_owned(),
            path: path.to_owned(),
        }),
    }
}

/// Returns the namespaces in the platform's manifests.
///
/// # Errors
/// A manifest cannot be read.
pub fn namespaces_of(platform: &Platform, workspace: &Path) -> Result<Vec<String>, BadInput> {
    let objects = objects_of(platform, workspace)?;
    let namespaces = objects.iter().filter(|it| it["kind"] == "Namespace");
    let names = namespaces.filter_map(|it| it["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Returns the objects of the platform's manifests.
///
/// # Errors
/// A manifest cannot be read.
pub fn objects_of(platform: &Platform, workspace: &Path) -> Result<Vec<Value>, BadInput> {
    let mut all = Vec::new();
    for file in &platform.manifests {
        let path = workspace.join(file);
        let text = read("platform.manifests", &path)?;
        let objects: Result<Vec<Value>, _> = serde_saphyr::from_multiple(&text);
        all.extend(objects.map_err(|error| {
            let reason = error.to_string();
            BadInput::Manifest { path, reason }
        })?);
    }
    Ok(all)
}

fn read(key: &str, path: &Path) -> Result<String, BadInput> {
    let text = read_bytes(key, path)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn read_bytes(key: &str, path: &Path) -> Result<Vec<u8>, BadInput> {
    std::fs::read(path).map_err(|source| BadInput::File {
        key: key.to_owned(),
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Target;

    fn checked(from: &str, to: &str) -> Result<(), String> {
        let text = include_str!("../../../../harness.toml");
        assert!(text.contains(from), "harness.toml has no {from:?}");
        let text = text.replacen(from, to, 1);
        let config = Config::parse(Path::new("harness.toml"), &text).unwrap();
        let Target::Kind(target) = &config.targets["kind"] else {
            panic!("it is a kind target");
        };
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        check(&config, ("kind", target), &workspace).map_err(|error| error.to_string())
    }

    #[test]
    fn another_platform_has_what_it_names() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let config = Config::read(&workspace.join("fixtures/podinfo/harness.toml")).unwrap();
        let Target::Kind(target) = &config.targets["kind"] else {
            panic!("it is a kind target");
        };
        check(&config, ("kind", target), &workspace).unwrap();
        assert_eq!(
            namespaces_of(&config.platform, &workspace).unwrap(),
            [""; 0]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(checked("values-local.yaml", "values-local.yaml"), Ok(()));
        for (from, to, named) in [
            (
                "values-local.yaml",
                "values-lokal.yaml",
                "values-lokal.yaml (targets.kind.values)",
            ),
            (
                "namespace = \"trii-platform\"",
                "namespace = \"trii-plattform\"",
                "\"trii-plattform\"",
            ),
            (
                "namespace = \"trii-platform\"",
                "namespace = \"trii-plattform\"",
                "trii-platform, trii-",
            ),
            (
                "chart = \"fixtures/helm/trii-platform\"",
                "chart = \"fixtures/helm\"",
                "it has no Chart.yaml",
            ),
            (
                "chart = \"fixtures/helm/trii-platform\"",
                "chart = \"chart.tgz\"",
                "chart.tgz (releases.chart)",
            ),
            (
                "[backing_services.postgres]",
                "[backing_services.postgres]\nversion = \"16\"",
                "this version is not available: fixtures/images/postgres has postgres:15.13-bookworm",
            ),
            (
                "[images.platform]",
                "[images.plattform]",
                "[images.plattform] has no recipe",
            ),
            (
                "policy.yaml\"",
                "pollicy.yaml\"",
                "pollicy.yaml (platform.manifests)",
            ),
            (
                "checks/ready.hurl",
                "checks/readi.hurl",
                "checks/readi.hurl",
            ),
        ] {
            let error = checked(from, to).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
