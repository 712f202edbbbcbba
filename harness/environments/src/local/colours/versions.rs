//! The versions of the service: a program for each in the environment's folder, as a node has
//! images.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use crate::environment::EnvironmentFolder;
use crate::local::build;
use base::process::{self, CommandError};

/// A version is not available.
#[derive(Debug, Error, Diagnostic)]
pub enum NotBuilt {
    /// The build failed.
    #[error(transparent)]
    Build(#[from] CommandError),
    /// cargo reported no program.
    #[error("cargo named no executable of the platform")]
    NoExecutable,
    /// The program cannot be copied.
    #[error("cannot keep the program of {version}: {source}")]
    Keep {
        /// The version.
        version: String,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Builds the program of `package` from the checkout, as `version` of the environment. An existing version does
/// not change, as an image's tag should not.
///
/// # Errors
/// [`NotBuilt`].
pub async fn build(
    workspace: &Path,
    package: &str,
    environment: &EnvironmentFolder,
    version: &str,
    deadline: Duration,
) -> Result<(), NotBuilt> {
    if folder(environment).join(version).is_file() {
        return Ok(());
    }
    let argv: Vec<String> = build::command(workspace, package)
        .into_iter()
        .map(|it| it.to_string_lossy().into_owned())
        .collect();
    let messages = process::output_in(workspace, &argv, deadline).await?;
    let program = build::executable(&messages, package).ok_or(NotBuilt::NoExecutable)?;
    keep(environment, version, &program).map_err(|source| NotBuilt::Keep {
        version: version.to_owned(),
        source,
    })
}

/// Adds a version `name` with the program of an existing one, which then reports `name`.
///
/// # Errors
/// [`NotBuilt::Keep`].
pub fn also_as(environment: &EnvironmentFolder, version: &str, name: &str) -> Result<(), NotBuilt> {
    let copied = keep(environment, name, &folder(environment).join(version));
    copied.map_err(|source| NotBuilt::Keep {
        version: name.to_owned(),
        source,
    })
}

pub(super) fn folder(environment: &EnvironmentFolder) -> PathBuf {
    environment.path().join("versions")
}

/// Copies `program` as `version`. Running processes keep the file that they have.
pub(super) fn keep(
    environment: &EnvironmentFolder,
    version: &str,
    program: &Path,
) -> io::Result<()> {
    let folder = folder(environment);
    std::fs::create_dir_all(&folder)?;
    let fresh = folder.join(format!(".{version}.new"));
    std::fs::copy(program, &fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&fresh, folder.join(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::EnvironmentName;
    use base::home::Home;

    #[test]
    fn a_version_does_not_change_with_the_program_that_was_copied() {
        let home = tempfile::tempdir().unwrap();
        let name: EnvironmentName = "mine".parse().unwrap();
        let environment = EnvironmentFolder::of(&Home::new(home.path()), &name);
        let program = home.path().join("platform");
        std::fs::write(&program, "one").unwrap();
        keep(&environment, "v1", &program).unwrap();
        std::fs::write(&program, "two").unwrap();
        also_as(&environment, "v1", "v1-next").unwrap();
        keep(&environment, "v2", &program).unwrap();
        let read = |version| std::fs::read_to_string(folder(&environment).join(version)).unwrap();
        assert_eq!(["v1", "v1-next", "v2"].map(read), ["one", "one", "two"]);
        let error = also_as(&environment, "v0", "v3").unwrap_err().to_string();
        assert!(
            error.starts_with("cannot keep the program of v3: "),
            "{error}"
        );
    }
}
