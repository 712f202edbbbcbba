//! `image.toml`, as it is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A whole `image.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageToml {
    /// Left out for what no registry has.
    pub pull: Option<PullToml>,
    pub build: BuildToml,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PullToml {
    pub reference: String,
}

/// Either `debian`, or what a Dockerfile's context holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct BuildToml {
    /// A suite.
    pub debian: Option<String>,
    /// Packages besides the minimal ones.
    #[serde(default)]
    pub include: Vec<String>,
    pub from: Option<FromToml>,
    #[serde(default)]
    pub go: Vec<GoPrograms>,
    pub cargo: Option<CargoProgram>,
    #[serde(default)]
    pub module_files: Vec<ModuleFiles>,
    #[serde(default)]
    pub preload: Vec<String>,
}

/// The recipes that a Dockerfile builds upon.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum FromToml {
    /// As the build argument `BASE`.
    One(String),
    /// By build argument.
    Several(BTreeMap<String, String>),
}

/// Programs of one Go module, compiled into the context's `bin/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct GoPrograms {
    /// A published module ...
    pub module: Option<GoModule>,
    /// ... or one that is a directory of the recipe.
    pub directory: Option<PathBuf>,
    /// Packages, by their directory in the module; `.` is the module's own.
    pub programs: Vec<String>,
    /// The version that stands for the directories by which the module's go.mod
    /// replaces others.
    pub directories: Option<String>,
    /// Modules it is compiled with in this version at least, by their path, whatever its go.mod
    /// replaces them by: with those of another image, what that has compiled is not compiled
    /// again.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
    /// Build constraints that hold.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Variables, and the text that the linker sets each to.
    #[serde(default)]
    pub stamp: BTreeMap<String, String>,
    /// By module: what is built upon instead of it.
    #[serde(default)]
    pub replace: BTreeMap<String, Replacement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GoModule {
    pub path: String,
    pub version: String,
}

/// What is built upon instead of a module.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Replacement {
    /// Another one.
    Module(GoModule),
    /// A directory of the recipe.
    Directory { directory: PathBuf },
    /// Itself, with a directory of the recipe laid over it.
    Overlay { version: String, overlay: PathBuf },
}

/// A program of the workspace, compiled into the context's `bin/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CargoProgram {
    pub package: String,
    /// Of cargo's.
    #[serde(default = "release")]
    pub profile: String,
    /// Files and directories of the workspace that it is made of.
    pub sources: Vec<PathBuf>,
}

fn release() -> String {
    "release".to_owned()
}

/// Files that a Go module carries, copied into the context.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModuleFiles {
    pub module: GoModule,
    /// In the module.
    pub directory: PathBuf,
    /// In the context.
    pub to: PathBuf,
}
