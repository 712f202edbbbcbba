//! Checks the repository's files for a kind target, before anything is started.

use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde_json::Value;
use thiserror::Error;

use super::manifests::NAMESPACES;
use crate::config::KindTarget;

/// The configuration names something that the repository does not have.
#[derive(Debug, Error, Diagnostic)]
pub enum BadInput {
    /// A file does not exist, or cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    #[diagnostic(help(
        "values of a kind target in harness.toml are files of the repository, e.g. \"fixtures/helm/trii-platform/values-local.yaml\""
    ))]
    File {
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
    #[error("namespace {namespace:?} is not in {}, which has {there}", path.display())]
    #[diagnostic(help(
        "set namespace of the target in harness.toml to one of them, or add a Namespace of that name to the file"
    ))]
    Namespace {
        /// The namespace.
        namespace: String,
        /// The manifest.
        path: PathBuf,
        /// The namespaces in the manifest.
        there: String,
    },
}

/// Checks that the repository has the target's values files and its namespace.
///
/// # Errors
/// [`BadInput`].
pub fn check(target: &KindTarget, workspace: &Path) -> Result<(), BadInput> {
    for file in &target.values {
        read(&workspace.join(file))?;
    }
    let path = workspace.join(NAMESPACES);
    let namespaces = namespaces(&read(&path)?);
    let namespaces = namespaces.map_err(|reason| BadInput::Manifest {
        path: path.clone(),
        reason,
    })?;
    match namespaces.contains(&target.namespace) {
        true => Ok(()),
        false => Err(BadInput::Namespace {
            namespace: target.namespace.clone(),
            path,
            there: namespaces.join(", "),
        }),
    }
}

fn read(path: &Path) -> Result<String, BadInput> {
    std::fs::read_to_string(path).map_err(|source| BadInput::File {
        path: path.to_owned(),
        source,
    })
}

/// The names of the Namespaces in a manifest.
fn namespaces(manifest: &str) -> Result<Vec<String>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(manifest).map_err(|error| error.to_string())?;
    let namespaces = documents.iter().filter(|it| it["kind"] == "Namespace");
    let names = namespaces.filter_map(|it| it["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(namespace: &str, values: &str) -> Result<(), String> {
        let target = KindTarget {
            kubernetes: "1.37".into(),
            nodes: 1,
            ingress_port: 0,
            namespace: namespace.to_owned(),
            values: vec![values.into()],
        };
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        check(&target, &workspace).map_err(|error| error.to_string())
    }

    #[test]
    fn a_missing_file_or_namespace_is_named() {
        let values = "fixtures/helm/trii-platform/values-local.yaml";
        assert_eq!(checked("trii-platform", values), Ok(()));

        let absent = checked("trii-platform", "fixtures/values-lokal.yaml").unwrap_err();
        assert!(absent.contains("fixtures/values-lokal.yaml"), "{absent}");

        let namespace = checked("trii-plattform", values).unwrap_err();
        assert!(namespace.contains("\"trii-plattform\""), "{namespace}");
        assert!(namespace.contains("trii-platform, trii-"), "{namespace}");
    }
}
