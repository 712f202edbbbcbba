//! A file in Hurl's format. <https://hurl.dev/docs/hurl-file.html>

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hurl_core::ast::SourceInfo;
use hurl_core::error::DisplaySourceError;
use hurl_core::parser::{ParseError, ParseErrorKind, parse_hurl_file};
use hurl_core::text::Format;

use crate::entry::Entry;
use crate::error::{HurlFileError, Refusal};
use crate::scope::Scope;
use crate::source::Source;

/// The entries of a file, in its order.
#[derive(Clone, Debug)]
pub struct HurlFile {
    path: PathBuf,
    text: String,
    entries: Vec<Entry>,
}

impl HurlFile {
    /// Reads a file's text. `known` are the variables that the caller sets; all others must be
    /// captured by an earlier entry.
    ///
    /// # Errors
    /// The first part that is not Hurl's format, that is not supported, or that reads an unknown
    /// variable. A file without any request.
    pub fn parse(
        path: &Path,
        text: &str,
        known: &BTreeSet<String>,
    ) -> Result<HurlFile, HurlFileError> {
        let source = Source { path, text };
        let entries = entries(&source, known).map_err(|refusal| source.error(refusal))?;
        Ok(HurlFile {
            path: path.to_owned(),
            text: text.to_owned(),
            entries,
        })
    }

    /// Returns the file's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the entries, in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn entries(source: &Source, known: &BTreeSet<String>) -> Result<Vec<Entry>, Refusal> {
    let file = parse_hurl_file(source.text).map_err(|error| syntax(&error))?;
    let mut scope = Scope::new(source, known);
    let read = file
        .entries
        .iter()
        .map(|entry| Entry::read(entry, &mut scope));
    let entries: Vec<Entry> = read.collect::<Result<_, _>>()?;
    match entries.is_empty() {
        false => Ok(entries),
        true => {
            let start = hurl_core::reader::Pos::new(1, 1);
            let help = "write one, as in `GET {{site}}/health`";
            Err(Refusal::new(
                SourceInfo::new(start, start),
                "has no request",
                help,
            ))
        }
    }
}

/// Returns hurl_core's message. It draws carets before it, for a terminal.
fn syntax(error: &ParseError) -> Refusal {
    let drawn = error.fixme(&[]).to_string(Format::Plain);
    let words: Vec<&str> = drawn
        .split_whitespace()
        .filter(|word| *word != "^")
        .collect();
    let help = match error.kind {
        ParseErrorKind::Xml => "XML bodies are not supported: write the body as text, between ```",
        _ => "see the format: https://hurl.dev/docs/grammar.html",
    };
    Refusal::new(error.source_info(), words.join(" "), help)
}
