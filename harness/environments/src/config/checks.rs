//! The smoke checks, and the tokens that they may use.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

use super::Fault;
use super::hurl::{GIVEN_VARIABLES, is_variable_name};
use super::schema::{CheckFileTable, TokenTable};
use super::shared_rules::fault;
use kubernetes::Action;

/// A file with smoke checks in Hurl's format. <https://hurl.dev>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFile {
    /// The file, relative to the repository.
    pub path: PathBuf,
    /// What a remote target must allow for them.
    pub needs: Option<Action>,
    /// Where harness.toml names the file.
    pub place: Range<usize>,
}

/// A token that the harness signs with the platform's key (HS256, RFC 7519), for an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    /// The claim `sub`. `{unique}` is replaced by a text that is different in each run.
    pub subject: String,
    /// The claim `role`.
    pub role: String,
}

pub(super) fn validate_files(files: Vec<CheckFileTable>) -> Vec<CheckFile> {
    let files = files.into_iter();
    files
        .map(|table| CheckFile {
            place: table.file.span(),
            path: table.file.into_inner(),
            needs: table.needs,
        })
        .collect()
}

pub(super) fn validate_tokens(
    tokens: BTreeMap<Spanned<String>, TokenTable>,
) -> Result<BTreeMap<String, TokenClaims>, Fault> {
    let tokens = tokens.into_iter();
    tokens
        .map(|(name, table)| {
            if GIVEN_VARIABLES.contains(&name.get_ref().as_str()) {
                return Err(fault(
                    &name,
                    format!("{{{{{}}}}} is a variable already", name.get_ref()),
                    "give the token another name",
                ));
            }
            if !is_variable_name(name.get_ref()) {
                return Err(fault(
                    &name,
                    format!("{:?} cannot name a variable", name.get_ref()),
                    "letters, digits and '_', e.g. [tokens.investor]",
                ));
            }
            let TokenTable { subject, role } = table;
            Ok((name.into_inner(), TokenClaims { subject, role }))
        })
        .collect()
}
