//! Files in Hurl's format that harness.toml names: smoke checks and journeys. <https://hurl.dev>

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use hurl_checks::{HurlFile, HurlFileError};
use miette::Diagnostic;
use thiserror::Error;

use super::{Config, ConfigError};

/// The variables that no token and no column of data may be called.
pub const GIVEN_VARIABLES: [&str; 4] = ["api", "demo_password", "site", "unique"];

/// A file that harness.toml names cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum NamedFileError {
    /// It cannot be read, or is not right for its purpose. The error has the line of harness.toml.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] Box<ConfigError>),
    /// It is not valid. The error has its own line.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] Box<HurlFileError>),
}

impl Config {
    /// Reads a file that harness.toml names at `place`, relative to the repository. Its requests may
    /// read the variables `known`, and must expect something of their answers.
    ///
    /// # Errors
    /// [`NamedFileError`].
    pub fn read_hurl(
        &self,
        workspace: &Path,
        path: &Path,
        place: &Range<usize>,
        known: &BTreeSet<String>,
    ) -> Result<HurlFile, NamedFileError> {
        let refuse = |message: String, help: &str| {
            Box::new(self.refuse(place.clone(), message, Some(help.to_owned())))
        };
        let text = std::fs::read_to_string(workspace.join(path)).map_err(|error| {
            let message = format!("cannot read {}: {error}", path.display());
            refuse(
                message,
                "name a file of the repository, in Hurl's format: docs/checks.md",
            )
        })?;
        let file = HurlFile::parse(path, &text, known).map_err(Box::new)?;
        let mut entries = file.entries().iter();
        match entries.find(|entry| !entry.has_response()) {
            None => Ok(file),
            Some(entry) => {
                let at = format!("{}:{}", path.display(), entry.line());
                let message = format!("{at}: any answer of this request is good");
                Err(refuse(message, "add what it must be, e.g. HTTP 200").into())
            }
        }
    }
}

/// Whether a text can name a variable of such a file.
pub fn is_variable_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(is_part)
}
