//! Tests of the architecture: crates depend only on those below them, modules form no cycle, and
//! only the guard rails permit changes of other clusters.

mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use modules::Modules;

/// The crates of `docs/architecture.md`, the lowest first: each may depend on those before it.
const LAYERS: [(&str, &str); 17] = [
    ("base", "harness/base"),
    ("prober", "harness/prober"),
    ("report", "harness/report"),
    ("hurl-checks", "harness/hurl-checks"),
    ("machine", "harness/machine"),
    ("kubernetes", "harness/kubernetes"),
    ("blue-green", "harness/blue-green"),
    ("helm", "harness/helm"),
    ("tokens", "harness/tokens"),
    ("environments", "harness/environments"),
    ("init", "harness/init"),
    ("load-engine", "loadtests/engine"),
    ("load-generator", "loadtests/generator"),
    ("scenarios", "scenarios"),
    ("loadtests", "loadtests"),
    ("operations", "xtask/operations"),
    ("xtask", "xtask"),
];

/// Separate programs, and what stands in for libxml: they depend on no crate of the workspace, and
/// no crate depends on them.
const APART: [&str; 3] = [
    "fixtures/platform",
    "harness/hurl-checks/libxml",
    "harness/machine/oci-runtime",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn manifest(folder: &str) -> toml::Table {
    let path = workspace().join(folder).join("Cargo.toml");
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parsed = text.parse();
    parsed.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the names in a manifest's `[dependencies]`. Tests may depend on more.
fn dependencies(manifest: &toml::Table) -> BTreeSet<&str> {
    let table = manifest
        .get("dependencies")
        .and_then(|value| value.as_table());
    let names = table.into_iter().flat_map(|table| table.keys());
    names.map(String::as_str).collect()
}

#[test]
fn every_crate_of_the_workspace_has_a_layer() {
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let members = members.iter().map(|member| member.as_str().unwrap());
    let known = LAYERS.iter().map(|(_, folder)| *folder).chain(APART);
    assert_eq!(members.collect::<BTreeSet<_>>(), known.collect());
}

#[test]
fn a_crate_depends_only_on_those_below_it() {
    let below: BTreeMap<&str, usize> = LAYERS.map(|(name, _)| name).into_iter().zip(0..).collect();
    for (layer, (name, folder)) in LAYERS.iter().enumerate() {
        let manifest = manifest(folder);
        assert_eq!(
            manifest["package"]["name"].as_str(),
            Some(*name),
            "{folder}"
        );
        for dependency in dependencies(&manifest) {
            let is_below = below.get(dependency).is_none_or(|other| *other < layer);
            assert!(
                is_below,
                "{name} depends on {dependency}, which is above it"
            );
        }
    }
    for folder in APART {
        let manifest = manifest(folder);
        let mut names = dependencies(&manifest).into_iter();
        let crate_of_ours = names.find(|name| below.contains_key(name));
        assert_eq!(crate_of_ours, None, "{folder} must not depend on it");
    }
}

/// An image's tag follows its sources: a crate that is not among them could change without it.
#[test]
fn the_sources_of_an_image_name_every_crate_of_its_program() {
    let folders = BTreeMap::from(LAYERS);
    for image in ["generator", "prober"] {
        let path = workspace().join(format!("fixtures/images/{image}/image.toml"));
        let recipe: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
        let cargo = &recipe["build"]["cargo"];
        let sources: Vec<&str> = cargo["sources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap())
            .collect();
        let mut crates = vec![cargo["package"].as_str().unwrap().to_owned()];
        while let Some(name) = crates.pop() {
            let Some(folder) = folders.get(name.as_str()) else {
                continue;
            };
            for part in ["Cargo.toml", "src"] {
                let part = format!("{folder}/{part}");
                assert!(sources.contains(&part.as_str()), "{image} lacks {part}");
            }
            crates.extend(
                dependencies(&manifest(folder))
                    .into_iter()
                    .map(str::to_owned),
            );
        }
    }
}

#[test]
fn modules_form_no_cycle() {
    let mut cycles = Vec::new();
    for (name, folder) in LAYERS {
        let source = workspace().join(folder).join("src");
        let found = Modules::read(&source).cycles().into_iter();
        cycles.extend(found.map(|cycle| format!("{name}: {cycle}")));
    }
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

/// Only the remote target's guard rails decide which changes a client may make in the cluster of
/// others.
#[test]
fn only_the_guard_rails_permit_changes_of_other_clusters() {
    let may = ["harness/environments/src/remote", "harness/kubernetes/src/"];
    for (_, folder) in LAYERS {
        for file in sources(&workspace().join(folder).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let file = file
                .strip_prefix(workspace())
                .unwrap()
                .display()
                .to_string();
            let is_test = file.ends_with("tests.rs");
            let permits = ["Permissions::granted(", "kubernetes::connect("];
            let permits = permits.iter().find(|call| text.contains(**call));
            let allowed = is_test || may.iter().any(|folder| file.starts_with(folder));
            assert!(permits.is_none() || allowed, "{file} uses {permits:?}");
        }
    }
}

/// Returns every Rust file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder can be listed").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn a_cycle_through_a_parents_import_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "lib.rs",
        "mod low; mod high; use high::High; #[cfg(test)] mod tests;",
    );
    write("high.rs", "use crate::low::Low; pub struct High(Low);");
    write("low.rs", "pub struct Low;");
    let cycles = || Modules::read(folder.path()).cycles();
    assert_eq!(cycles(), [] as [&str; 0]);
    // It names only its parent.
    write("low.rs", "use super::High; pub struct Low(Box<High>);");
    assert_eq!(cycles(), ["high -> low -> high"]);
}
