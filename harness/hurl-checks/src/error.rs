//! Errors: of a file, and of a request.

use std::path::PathBuf;

use hurl_core::ast::SourceInfo;
use miette::{Diagnostic, NamedSource, SourceSpan};
use thiserror::Error;

/// A file that is not valid, or that needs a part of Hurl which this crate does not have.
#[derive(Debug, Error, Diagnostic)]
#[error("{}:{line}: {message}", path.display())]
#[diagnostic(code(hurl_checks::file))]
pub struct HurlFileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The problem.
    pub message: String,
    /// What to do.
    #[help]
    pub help: String,
    /// The file's text.
    #[source_code]
    pub text: NamedSource<String>,
    /// Where the problem is in the text.
    #[label("here")]
    pub span: SourceSpan,
}

/// A request that cannot be made from the variables. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("line {line}: {message}")]
#[diagnostic(
    code(hurl_checks::request),
    help("see which value the variable has: an earlier entry captured it, or the caller set it")
)]
pub struct EntryError {
    /// The line of the part that cannot be made, from 1.
    pub line: usize,
    /// The problem.
    pub message: String,
}

/// A part of a file that is refused. Its file is not known here.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub at: SourceInfo,
    pub message: String,
    pub help: String,
}

impl Refusal {
    pub(crate) fn new(
        at: SourceInfo,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Refusal {
        let (message, help) = (message.into(), help.into());
        Refusal { at, message, help }
    }
}
