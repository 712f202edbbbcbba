//! What an entry expects of its answer: <https://hurl.dev/docs/response.html>

use std::sync::Arc;

use http::Version;
use hurl_core::ast::{self, StatusValue, VersionValue};

use crate::assertion::{Assertion, Failure};
use crate::body::Body;
use crate::error::Refusal;
use crate::filter::Filter;
use crate::predicate::Predicate;
use crate::query::{Query, header, version};
use crate::response::{Parsed, Response};
use crate::scope::Scope;
use crate::template::Template;
use crate::value::Value;
use crate::variables::Variables;

/// The part of an entry from its line `HTTP` on.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    status: Expected,
    captures: Vec<Capture>,
    asserts: Vec<Expected>,
}

/// An assert at its line.
#[derive(Clone, Debug)]
struct Expected {
    line: usize,
    text: Arc<str>,
    assert: Assert,
}

#[derive(Clone, Debug)]
enum Assert {
    Status(Option<Version>, Option<u64>),
    Header(Template, Template),
    Body(Body),
    Query(Reading, Predicate),
}

/// A query and its filters.
#[derive(Clone, Debug)]
struct Reading {
    query: Query,
    filters: Vec<Filter>,
}

#[derive(Clone, Debug)]
struct Capture {
    line: usize,
    text: Arc<str>,
    name: String,
    read: Reading,
    redacted: bool,
}

impl Expectation {
    /// Reads what an entry expects, and adds what it captures to the scope.
    pub(crate) fn read(
        response: &ast::Response,
        scope: &mut Scope,
    ) -> Result<Expectation, Refusal> {
        let mut captures = Vec::new();
        for capture in response.captures() {
            let capture = Capture::read(capture, scope)?;
            scope.define(&capture.name);
            captures.push(capture);
        }
        let at = |line, assert| Expected::new(line, assert, scope);
        let mut asserts = Vec::new();
        for pair in &response.headers {
            let (name, value) = (
                Template::read(&pair.key, scope)?,
                Template::read(&pair.value, scope)?,
            );
            asserts.push(at(name.line, Assert::Header(name, value)));
        }
        if let Some(body) = &response.body {
            let line = body.space0.source_info.start.line;
            asserts.push(at(line, Assert::Body(Body::read(body, scope)?)));
        }
        for assert in response.asserts() {
            let read = Reading::read(&assert.query, &assert.filters, scope)?;
            let predicate = Predicate::read(&assert.predicate, scope)?;
            let line = assert.query.source_info.start.line;
            asserts.push(at(line, Assert::Query(read, predicate)));
        }
        let line = response.version.source_info.start.line;
        let status = at(line, status(response));
        Ok(Expectation {
            status,
            captures,
            asserts,
        })
    }

    /// Whether it reads only the status and HTTP's version.
    pub(crate) fn needs_status_only(&self) -> bool {
        self.captures.is_empty() && self.asserts.is_empty()
    }

    /// Returns the variables that it captures.
    pub(crate) fn captures(&self) -> impl Iterator<Item = &str> {
        self.captures.iter().map(|capture| capture.name.as_str())
    }

    /// Evaluates an answer: the status, then the captures, then the asserts, which may read them.
    /// After a wrong status or version it evaluates nothing else, as Hurl does.
    pub(crate) fn evaluate(
        &self,
        response: &Response,
        variables: &mut Variables,
    ) -> Vec<Assertion> {
        let parsed = Parsed::new(response);
        let status = self.status.evaluate(&parsed, variables);
        let failed = status.failure.is_some();
        let mut assertions = vec![status];
        if !failed {
            let captures = self.captures.iter();
            assertions.extend(captures.filter_map(|capture| capture.evaluate(&parsed, variables)));
            let asserts = self.asserts.iter();
            assertions.extend(asserts.map(|assert| assert.evaluate(&parsed, variables)));
        }
        assertions
    }
}

fn status(response: &ast::Response) -> Assert {
    let version = match response.version.value {
        VersionValue::Version1 => Some(Version::HTTP_10),
        VersionValue::Version11 => Some(Version::HTTP_11),
        VersionValue::Version2 => Some(Version::HTTP_2),
        VersionValue::Version3 => Some(Version::HTTP_3),
        VersionValue::VersionAny => None,
    };
    let status = match response.status.value {
        StatusValue::Any => None,
        StatusValue::Specific(status) => Some(status),
    };
    Assert::Status(version, status)
}

impl Expected {
    fn new(line: usize, assert: Assert, scope: &Scope) -> Expected {
        let text = scope.source.line(line).into();
        Expected { line, text, assert }
    }

    fn evaluate(&self, parsed: &Parsed, variables: &Variables) -> Assertion {
        Assertion {
            line: self.line,
            text: Arc::clone(&self.text),
            failure: self.assert.evaluate(parsed, variables).err(),
        }
    }
}

impl Assert {
    fn evaluate(&self, parsed: &Parsed, variables: &Variables) -> Result<(), Failure> {
        match self {
            Assert::Status(version, status) => status_holds(*version, *status, parsed, variables),
            Assert::Header(name, value) => header_holds(name, value, parsed, variables),
            Assert::Body(body) => body_holds(body, parsed, variables),
            Assert::Query(read, predicate) => {
                let fail = |seen| Err(failure(predicate.expected(variables), seen, variables));
                let seen = match read.evaluate(parsed, variables) {
                    Ok(seen) => seen,
                    Err(why) => return fail(why),
                };
                match predicate.holds(seen.as_ref(), variables) {
                    Ok(true) => Ok(()),
                    Ok(false) => fail(shown(seen.as_ref())),
                    Err(why) => fail(why),
                }
            }
        }
    }
}

fn status_holds(
    expected_version: Option<Version>,
    expected: Option<u64>,
    parsed: &Parsed,
    variables: &Variables,
) -> Result<(), Failure> {
    let response = parsed.response;
    if let Some(expected) = expected_version.filter(|expected| *expected != response.version) {
        let http = |value| format!("HTTP/{}", version(value));
        return Err(failure(http(expected), http(response.version), variables));
    }
    match expected.filter(|expected| *expected != u64::from(response.status.as_u16())) {
        None => Ok(()),
        Some(expected) => {
            let seen = format!(
                "{} with the body {}",
                response.status.as_u16(),
                parsed.lossy()
            );
            Err(failure(expected.to_string(), seen, variables))
        }
    }
}

fn header_holds(
    name: &Template,
    value: &Template,
    parsed: &Parsed,
    variables: &Variables,
) -> Result<(), Failure> {
    let render = |template: &Template| {
        let text = template.render(variables);
        text.map_err(|why| failure("a header".to_owned(), why, variables))
    };
    let (name, expected) = (render(name)?, Value::from(render(value)?));
    let seen = header(&name, parsed);
    match &seen {
        Some(seen) if *seen == expected => Ok(()),
        Some(Value::List(seen)) if seen.contains(&expected) => Ok(()),
        seen => {
            let seen = shown(seen.as_ref());
            Err(failure(expected.json(), seen, variables))
        }
    }
}

/// JSON bodies are equal if their values are: spaces and the order of members do not matter.
fn body_holds(body: &Body, parsed: &Parsed, variables: &Variables) -> Result<(), Failure> {
    let fail = |expected: &str, seen| Err(failure(expected.to_owned(), seen, variables));
    let bytes = match body.render(variables) {
        Ok(bytes) => bytes,
        Err(why) => return fail("a body", why),
    };
    let (expected, seen) = match body {
        Body::Bytes(_) => (
            Value::Bytes(bytes),
            Ok(Value::Bytes(parsed.response.body.clone())),
        ),
        Body::Text(_) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            (text.into(), parsed.text().map(Value::from))
        }
        Body::Json(_) => match serde_json::from_slice::<serde_json::Value>(&bytes) {
            Ok(json) => (Value::from(&json), parsed.json().map(Value::from)),
            Err(error) => return fail("a JSON body", error.to_string()),
        },
    };
    match seen {
        Ok(seen) if seen == expected => Ok(()),
        Ok(seen) => fail(&expected.json(), seen.json()),
        Err(why) => fail(&expected.json(), why),
    }
}

impl Reading {
    fn read(
        query: &ast::Query,
        filters: &[(ast::Whitespace, ast::Filter)],
        scope: &Scope,
    ) -> Result<Reading, Refusal> {
        let query = Query::read(query, scope)?;
        let filters = filters
            .iter()
            .map(|(_, filter)| Filter::read(filter, scope));
        let filters = filters.collect::<Result<_, _>>()?;
        Ok(Reading { query, filters })
    }

    fn evaluate(&self, parsed: &Parsed, variables: &Variables) -> Result<Option<Value>, String> {
        let mut value = self.query.evaluate(parsed, variables)?;
        for filter in &self.filters {
            let Some(found) = value else { break };
            value = filter.apply(&found, variables)?;
        }
        Ok(value)
    }
}

impl Capture {
    fn read(capture: &ast::Capture, scope: &Scope) -> Result<Capture, Refusal> {
        let at = capture.name.source_info;
        let name = Template::read(&capture.name, scope)?.fixed();
        let variable = "captures into a variable whose name is a template";
        let line = at.start.line;
        Ok(Capture {
            line,
            text: scope.source.line(line).into(),
            name: name.ok_or_else(|| Refusal::new(at, variable, "write the name itself"))?,
            read: Reading::read(&capture.query, &capture.filters, scope)?,
            redacted: capture.redacted,
        })
    }

    /// Sets the variable, or returns what was seen instead of a value.
    fn evaluate(&self, parsed: &Parsed, variables: &mut Variables) -> Option<Assertion> {
        let seen = match self.read.evaluate(parsed, variables) {
            Ok(Some(value)) => {
                match self.redacted {
                    true => variables.insert_secret(&self.name, value),
                    false => variables.insert(&self.name, value),
                }
                return None;
            }
            Ok(None) => shown(None),
            Err(why) => why,
        };
        Some(Assertion {
            line: self.line,
            text: Arc::clone(&self.text),
            failure: Some(failure("a value to capture".to_owned(), seen, variables)),
        })
    }
}

fn shown(seen: Option<&Value>) -> String {
    match seen {
        None => "nothing".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(seen) => format!("{} {}", seen.kind(), seen.json()),
    }
}

fn failure(expected: String, seen: String, variables: &Variables) -> Failure {
    let (expected, seen) = (variables.cut(&expected), variables.cut(&seen));
    Failure { expected, seen }
}
