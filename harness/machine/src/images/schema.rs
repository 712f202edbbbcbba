//! The schema of `image.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageToml {
    /// Left out if no registry has the image.
    pub pull: Option<PullToml>,
    pub build: BuildToml,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PullToml {
    pub reference: String,
}

/// Either `debian`, or what a Dockerfile's context has.
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
    /// Packages, by their directory in the module; `.` is its root.
    pub programs: Vec<String>,
    /// The version to use in place of the directories in the replacements of the module's go.mod.
    pub directories: Option<String>,
    /// The minimum versions of modules, by their path. They override replacements in its go.mod.
    /// With the versions of another image, the packages that it compiled are not compiled again.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
    /// Build constraints.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Variables, and the values that the linker sets.
    #[serde(default)]
    pub stamp: BTreeMap<String, String>,
    /// Replacements, by module.
    #[serde(default)]
    pub replace: BTreeMap<String, Replacement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GoModule {
    pub path: String,
    pub version: String,
}

/// The replacement of a module.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Replacement {
    /// Another module.
    Module(GoModule),
    /// A directory of the recipe.
    Directory { directory: PathBuf },
    /// The module itself, with the files of a directory of the recipe over it.
    Overlay { version: String, overlay: PathBuf },
}

/// A program of the workspace, compiled into the context's `bin/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CargoProgram {
    pub package: String,
    /// cargo's profile.
    #[serde(default = "release")]
    pub profile: String,
    /// Its files and directories in the workspace.
    pub sources: Vec<PathBuf>,
}

fn release() -> String {
    "release".to_owned()
}

/// Files of a Go module, copied into the context.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModuleFiles {
    pub module: GoModule,
    /// In the module.
    pub directory: PathBuf,
    /// In the context.
    pub to: PathBuf,
}
