//! The versions that the service can be released in: for each a program in the environment's
//! folder, as a node has images.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use crate::environment::EnvironmentFolder;
use crate::local::build;
use crate::subprocess::{self, SubprocessError};

/// A version cannot be had.
#[derive(Debug, Error, Diagnostic)]
pub enum NotBuilt {
    /// It does not build.
    #[error(transparent)]
    Build(#[from] SubprocessError),
    /// cargo built it, and named no program.
    #[error("cargo named no executable of the platform")]
    NoExecutable,
    /// There is no room for it, say.
    #[error("cannot keep the program of {version}: {source}")]
    Keep {
        /// Which.
        version: String,
        /// The system's word.
        source: io::Error,
    },
}

/// Builds the platform from the checkout, as `version` of the environment. One that is there
/// stays what it is, as an image's tag should: what is built next is another version.
///
/// # Errors
/// [`NotBuilt`].
pub async fn build(
    workspace: &Path,
    environment: &EnvironmentFolder,
    version: &str,
    deadline: Duration,
) -> Result<(), NotBuilt> {
    if folder(environment).join(version).is_file() {
        return Ok(());
    }
    let argv: Vec<String> = build::command(workspace)
        .into_iter()
        .map(|it| it.to_string_lossy().into_owned())
        .collect();
    let messages = subprocess::output_in(workspace, &argv, deadline).await?;
    let program = build::executable(&messages).ok_or(NotBuilt::NoExecutable)?;
    keep(environment, version, &program).map_err(|source| NotBuilt::Keep {
        version: version.to_owned(),
        source,
    })
}

/// Gives a version that is there another name: the same program, which signs with that.
///
/// # Errors
/// [`NotBuilt::Keep`].
pub fn also_as(environment: &EnvironmentFolder, version: &str, name: &str) -> Result<(), NotBuilt> {
    let kept = keep(environment, name, &folder(environment).join(version));
    kept.map_err(|source| NotBuilt::Keep {
        version: name.to_owned(),
        source,
    })
}

/// Where they are.
pub(super) fn folder(environment: &EnvironmentFolder) -> PathBuf {
    environment.path().join("versions")
}

/// Keeps a copy of `program` as `version`. A process of an earlier one goes on with what it
/// has, and cargo may write to its own.
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
    use crate::home::Home;

    #[test]
    fn a_version_is_kept_as_it_was_when_it_came() {
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
