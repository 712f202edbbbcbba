//! The smoke checks, and the tokens that they may use.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

use super::Fault;
use super::hurl::{GIVEN_VARIABLES, is_variable_name};
pub use super::schema::CodedChecks;
use super::schema::{ChecksTable, TokenTable};
use super::shared_rules::fault;
use kubernetes::Action;
use tokens::TokenClaims;

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

/// Returns the files, and the checks in code.
pub(super) fn validate_checks(
    tables: &[Spanned<ChecksTable>],
) -> Result<(Vec<CheckFile>, Vec<CodedChecks>), Fault> {
    let (mut files, mut coded) = (Vec::new(), Vec::new());
    for table in tables {
        let ChecksTable { file, code, needs } = table.get_ref();
        match (file, code, needs) {
            (Some(file), None, needs) => files.push(CheckFile {
                place: file.span(),
                path: file.get_ref().clone(),
                needs: needs.as_ref().map(|it| *it.get_ref()),
            }),
            (None, Some(code), None) => coded.push(*code.get_ref()),
            (None, Some(_), Some(needs)) => {
                return Err(fault(
                    needs,
                    "checks in code know what they need".to_owned(),
                    "leave needs out",
                ));
            }
            (Some(_), Some(_), _) | (None, None, _) => {
                return Err(fault(
                    table,
                    "checks need either a file or code".to_owned(),
                    "file = \"checks.hurl\": docs/checks.md",
                ));
            }
        }
    }
    Ok((files, coded))
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
