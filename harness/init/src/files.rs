//! The files of a new configuration. No file is overwritten.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::configuration::{Configuration, FileNames};
use crate::error::InitError;

/// The files of a new configuration.
#[derive(Clone, Debug)]
pub struct Files {
    /// The configuration.
    pub configuration: PathBuf,
    /// The checks: `NAME-checks.hurl` beside it.
    checks: PathBuf,
    /// The journey: `NAME-journey.hurl` beside it.
    journey: PathBuf,
}

impl Files {
    /// Returns the files of a configuration `NAME.toml`.
    ///
    /// # Errors
    /// [`InitError::Exists`] if one of them exists.
    pub fn beside(configuration: &Path) -> Result<Files, InitError> {
        let name = configuration.file_stem().unwrap_or_default();
        let name = name.to_string_lossy();
        let files = Files {
            configuration: configuration.to_owned(),
            checks: configuration.with_file_name(format!("{name}-checks.hurl")),
            journey: configuration.with_file_name(format!("{name}-journey.hurl")),
        };
        let all = [&files.configuration, &files.checks, &files.journey];
        let existing = all.into_iter().find(|it| it.exists());
        match existing.cloned() {
            Some(path) => Err(InitError::Exists { path }),
            None => Ok(files),
        }
    }

    /// Returns their names in the configuration.
    pub fn names(&self, workspace: &Path) -> FileNames {
        FileNames {
            configuration: self.configuration.clone(),
            checks: of_repository(&self.checks, workspace),
            journey: of_repository(&self.journey, workspace),
        }
    }

    /// Writes the files, the configuration last. Returns those that were written, the configuration
    /// first.
    ///
    /// # Errors
    /// [`InitError::Exists`] and [`InitError::Unwritable`].
    pub fn write(&self, configuration: &Configuration) -> Result<Vec<PathBuf>, InitError> {
        let texts = [
            (&self.journey, configuration.journey.as_deref()),
            (&self.checks, configuration.checks.as_deref()),
            (&self.configuration, Some(configuration.text.as_str())),
        ];
        let mut written = Vec::new();
        for (path, text) in texts {
            if let Some(text) = text {
                write_new(path, text)?;
                written.insert(0, path.clone());
            }
        }
        Ok(written)
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), InitError> {
    let file = File::create_new(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => InitError::Exists {
            path: path.to_owned(),
        },
        _ => InitError::Unwritable {
            path: path.to_owned(),
            source,
        },
    })
}

/// Returns a path as a configuration has it: relative to the repository if it is there, else
/// absolute.
pub fn of_repository(path: &Path, workspace: &Path) -> PathBuf {
    let (Ok(path), Ok(workspace)) = (resolved(path), workspace.canonicalize()) else {
        return path.to_owned();
    };
    let relative = path.strip_prefix(&workspace).map(Path::to_owned);
    relative.unwrap_or(path)
}

/// The path without links. The file itself may not exist yet.
fn resolved(path: &Path) -> std::io::Result<PathBuf> {
    if path.exists() {
        return path.canonicalize();
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize()?;
    Ok(folder.join(path.file_name().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Configuration {
        Configuration {
            text: "schema = 1\n".into(),
            checks: Some("GET {{site}}/\nHTTP 200\n".into()),
            journey: None,
            to_do: Vec::new(),
        }
    }

    #[test]
    fn the_files_are_beside_each_other_and_are_named_from_the_repository() {
        let repository = tempfile::tempdir().unwrap();
        let folder = repository.path().join("platforms");
        std::fs::create_dir(&folder).unwrap();
        let files = Files::beside(&folder.join("web.toml")).unwrap();
        let names = files.names(repository.path());
        assert_eq!(names.checks, Path::new("platforms/web-checks.hurl"));
        let elsewhere = tempfile::tempdir().unwrap();
        let names = files.names(elsewhere.path());
        assert!(names.checks.is_absolute());

        let written = files.write(&configuration()).unwrap();
        let expected = ["web.toml", "web-checks.hurl"].map(|it| folder.join(it));
        assert_eq!(written, expected);
    }

    #[test]
    fn no_file_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.toml");
        let files = Files::beside(&path).unwrap();
        let checks = folder.path().join("web-checks.hurl");
        std::fs::write(&checks, "mine").unwrap();
        let error = Files::beside(&path).unwrap_err().to_string();
        assert!(error.contains("web-checks.hurl exists"), "{error}");
        // It may also come later.
        let error = files.write(&configuration()).unwrap_err();
        assert!(matches!(error, InitError::Exists { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&checks).unwrap(), "mine");
        assert!(!path.exists());
    }
}
