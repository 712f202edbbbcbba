//! One request of a file, and what it expects of the answer.

use std::collections::BTreeSet;

use bytes::Bytes;
use hurl_core::ast;

use crate::assertion::Assertion;
use crate::curl;
use crate::error::{EntryError, Refusal};
use crate::expectation::Expectation;
use crate::options::Options;
use crate::request::Request;
use crate::response::Response;
use crate::scope::Scope;
use crate::template::Part;
use crate::variables::Variables;

/// One request of a file, and what it expects of the answer.
#[derive(Clone, Debug)]
pub struct Entry {
    comment: Option<String>,
    method_and_path: String,
    line: usize,
    /// The variables that must have a value before it.
    reads: BTreeSet<String>,
    request: Request,
    expectation: Option<Expectation>,
}

impl Entry {
    pub(crate) fn read(entry: &ast::Entry, scope: &mut Scope) -> Result<Entry, Refusal> {
        let request = Request::read(&entry.request, scope)?;
        let expectation = entry.response.as_ref();
        let expectation = expectation.map(|response| Expectation::read(response, scope));
        let expectation = expectation.transpose()?;
        Ok(Entry {
            method_and_path: method_and_path(&entry.request),
            comment: comment(&entry.request),
            line: entry.source_info().start.line,
            reads: scope.end_entry(),
            request,
            expectation,
        })
    }

    /// Returns the first line of the comment directly above the request.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// Returns the comment, else the method and path.
    pub fn title(&self) -> &str {
        self.comment().unwrap_or(&self.method_and_path)
    }

    /// Returns the method, and the path as the file has it, without host and query.
    pub fn method_and_path(&self) -> &str {
        &self.method_and_path
    }

    /// Returns the line of the request, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Returns the options that the caller carries out.
    pub fn options(&self) -> Options {
        self.request.options
    }

    /// Returns the variables that must have a value before it, of its request and of its asserts.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        self.reads.iter().map(String::as_str)
    }

    /// Returns the variables that it reads and that have no value, because a capture failed.
    pub fn without_value<'a>(&'a self, variables: &Variables) -> impl Iterator<Item = &'a str> {
        self.reads().filter(|name| variables.get(name).is_none())
    }

    /// Returns the variables that it captures.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.expectation.iter().flat_map(Expectation::captures)
    }

    /// Whether it has a response, from the line `HTTP` on: without one, any answer is good.
    pub fn has_response(&self) -> bool {
        self.expectation.is_some()
    }

    /// Whether the URL begins with `http://` or `https://`, and not with a variable.
    pub fn names_host(&self) -> bool {
        matches!(self.request.url.parts.first(), Some(Part::Text(_)))
    }

    /// Whether the status and HTTP's version decide alone: the headers and the body are not read.
    pub fn needs_status_only(&self) -> bool {
        let expectation = self.expectation.as_ref();
        expectation.is_none_or(Expectation::needs_status_only)
    }

    /// Makes the request from the variables. JSON bodies escape them, and parameters encode them;
    /// the URL has them as they are. The request has the secrets: headers with one
    /// are marked as sensitive, the URL and the body cannot be.
    ///
    /// # Errors
    /// A variable has no value, or none that the request can have there.
    pub fn request(&self, variables: &Variables) -> Result<http::Request<Bytes>, EntryError> {
        self.request.render(variables)
    }

    /// Evaluates the answer, and sets the variables that the entry captures.
    ///
    /// The result has each assert of the file, and the captures that failed. After a wrong status
    /// or version it has only that, as Hurl does: an error page has nothing to capture.
    pub fn evaluate(&self, response: &Response, variables: &mut Variables) -> Vec<Assertion> {
        let expectation = self.expectation.as_ref();
        expectation.map_or_else(Vec::new, |expected| expected.evaluate(response, variables))
    }

    /// Writes the request as a command of curl, for a POSIX shell and curl 7.87 or later. A secret
    /// is `$NAME`, a variable of the shell that no JSON escapes; a variable without a value stays
    /// `{{name}}`.
    pub fn curl(&self, variables: &Variables) -> String {
        curl::command(&self.request, variables)
    }
}

/// Returns the first line of the comment directly above a request.
fn comment(request: &ast::Request) -> Option<String> {
    let above = request.line_terminators.iter().rev();
    let comments = above.map_while(|line| line.comment.as_ref());
    let texts = comments.map(|comment| comment.value.trim_start_matches('#').trim().to_owned());
    texts.filter(|text| !text.is_empty()).last()
}

/// Returns the method, and the URL without its host and query.
fn method_and_path(request: &ast::Request) -> String {
    let url = request.url.to_string();
    let after_host = match url.split_once("://") {
        Some(("http" | "https", rest)) => rest.find(['/', '?']).map_or("", |at| &rest[at..]),
        _ => url.split_once("}}").map_or("", |(_, rest)| rest),
    };
    let path = after_host.split(['?', '#']).next().unwrap_or_default();
    format!(
        "{} {}",
        request.method,
        if path.is_empty() { "/" } else { path }
    )
}
