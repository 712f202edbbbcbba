//! Queries: the part of an answer that an assert or a capture reads.
//! <https://hurl.dev/docs/asserting-response.html#asserts>

use bytes::Bytes;
use http::Version;
use hurl_core::ast::{self, QueryValue};
use sha2::{Digest, Sha256};

use crate::cookie::Attribute;
use crate::error::Refusal;
use crate::json_path::JsonPath;
use crate::pattern::Pattern;
use crate::response::Parsed;
use crate::scope::Scope;
use crate::template::Template;
use crate::value::Value;
use crate::variables::Variables;

#[derive(Clone, Debug)]
pub(crate) enum Query {
    Status,
    Version,
    Url,
    Header(Template),
    Cookie(Template, Attribute),
    Body,
    JsonPath(JsonPath),
    Regex(Pattern),
    Variable(Template),
    Duration,
    Bytes,
    Sha256,
}

impl Query {
    pub(crate) fn read(query: &ast::Query, scope: &Scope) -> Result<Query, Refusal> {
        Ok(match &query.value {
            QueryValue::Status => Query::Status,
            QueryValue::Version => Query::Version,
            QueryValue::Url => Query::Url,
            QueryValue::Header { name, .. } => Query::Header(Template::read(name, scope)?),
            QueryValue::Cookie { expr, .. } => {
                let attribute = expr.attribute.as_ref();
                let attribute = attribute.map(|attribute| Attribute::read(&attribute.name));
                let name = Template::read(&expr.name, scope)?;
                Query::Cookie(name, attribute.unwrap_or(Attribute::Value))
            }
            QueryValue::Body => Query::Body,
            QueryValue::Jsonpath { expr, .. } => Query::JsonPath(JsonPath::read(expr, scope)?),
            QueryValue::Regex { value, .. } => Query::Regex(Pattern::read(value, scope)?),
            QueryValue::Variable { name, .. } => Query::Variable(Template::read(name, scope)?),
            QueryValue::Duration => Query::Duration,
            QueryValue::Bytes => Query::Bytes,
            QueryValue::Sha256 => Query::Sha256,
            QueryValue::Xpath { .. }
            | QueryValue::RawBytes
            | QueryValue::Md5
            | QueryValue::Certificate { .. }
            | QueryValue::Ip
            | QueryValue::Redirects => return Err(refused(query)),
        })
    }

    /// Returns what it finds, if anything.
    ///
    /// # Errors
    /// What was seen instead of something that can be read.
    pub(crate) fn evaluate(
        &self,
        parsed: &Parsed,
        variables: &Variables,
    ) -> Result<Option<Value>, String> {
        let response = parsed.response;
        Ok(match self {
            Query::Status => Some(u64::from(response.status.as_u16()).into()),
            Query::Version => Some(version(response.version).into()),
            Query::Url => Some(response.url.as_str().into()),
            Query::Header(name) => header(&name.render(variables)?, parsed),
            Query::Cookie(name, attribute) => {
                attribute.of(&name.render(variables)?, &response.headers)
            }
            Query::Body => Some(parsed.text()?.into()),
            Query::JsonPath(path) => path.evaluate(parsed.json()?, variables)?,
            Query::Regex(pattern) => pattern
                .first_group(parsed.text()?, variables)?
                .map(Value::from),
            Query::Variable(name) => variables.get(&name.render(variables)?).cloned(),
            Query::Duration => Some(Value::of_count(response.duration.as_millis() as usize)),
            Query::Bytes => Some(Value::Bytes(response.body.clone())),
            Query::Sha256 => {
                let digest = Sha256::digest(&response.body);
                Some(Value::Bytes(Bytes::copy_from_slice(&digest)))
            }
        })
    }
}

fn refused(query: &ast::Query) -> Refusal {
    Refusal::new(
        query.source_info,
        format!(
            "has the query {}, which is not supported",
            query.value.identifier()
        ),
        "query status, version, url, header, cookie, body, jsonpath, regex, variable, duration, bytes or sha256",
    )
}

/// Returns HTTP's version as Hurl writes it.
pub(crate) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        _ => "3",
    }
}

/// Returns a header's value, or the list of its values.
pub(crate) fn header(name: &str, parsed: &Parsed) -> Option<Value> {
    let values = parsed.response.headers.get_all(name).into_iter();
    let values = values.map(|value| {
        String::from_utf8_lossy(value.as_bytes())
            .into_owned()
            .into()
    });
    let mut values: Vec<Value> = values.collect();
    match values.len() {
        0 | 1 => values.pop(),
        _ => Some(Value::List(values)),
    }
}
