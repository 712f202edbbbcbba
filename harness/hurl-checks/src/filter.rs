//! Filters: they change the value of a query. <https://hurl.dev/docs/filters.html>

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use hurl_core::ast::{self, FilterValue, IntegerValue};

use crate::error::Refusal;
use crate::json_path::JsonPath;
use crate::number::Number;
use crate::pattern::Pattern;
use crate::percent;
use crate::scope::Scope;
use crate::template::Template;
use crate::value::{Value, hex};
use crate::variables::Variables;

#[derive(Clone, Debug)]
pub(crate) enum Filter {
    Base64Decode,
    Base64Encode,
    Base64UrlSafeDecode,
    Base64UrlSafeEncode,
    Count,
    First,
    JsonPath(JsonPath),
    Last,
    /// From the end if it is negative.
    Nth(i64),
    Regex(Pattern),
    Replace(Template, Template),
    ReplaceRegex(Pattern, Template),
    Split(Template),
    ToFloat,
    ToHex,
    ToInt,
    ToString,
    UrlDecode,
    UrlEncode,
    UrlQueryParam(Template),
    Utf8Decode,
    Utf8Encode,
}

impl Filter {
    pub(crate) fn read(filter: &ast::Filter, scope: &Scope) -> Result<Filter, Refusal> {
        let template = |template| Template::read(template, scope);
        Ok(match &filter.value {
            FilterValue::Base64Decode => Filter::Base64Decode,
            FilterValue::Base64Encode => Filter::Base64Encode,
            FilterValue::Base64UrlSafeDecode => Filter::Base64UrlSafeDecode,
            FilterValue::Base64UrlSafeEncode => Filter::Base64UrlSafeEncode,
            FilterValue::Count => Filter::Count,
            FilterValue::First => Filter::First,
            FilterValue::JsonPath { expr, .. } => Filter::JsonPath(JsonPath::read(expr, scope)?),
            FilterValue::Last => Filter::Last,
            FilterValue::Nth {
                n: IntegerValue::Literal(n),
                ..
            } => Filter::Nth(n.as_i64()),
            FilterValue::Regex { value, .. } => Filter::Regex(Pattern::read(value, scope)?),
            FilterValue::Replace {
                old_value,
                new_value,
                ..
            } => Filter::Replace(template(old_value)?, template(new_value)?),
            FilterValue::ReplaceRegex {
                pattern, new_value, ..
            } => Filter::ReplaceRegex(Pattern::read(pattern, scope)?, template(new_value)?),
            FilterValue::Split { sep, .. } => Filter::Split(template(sep)?),
            FilterValue::ToFloat => Filter::ToFloat,
            FilterValue::ToHex => Filter::ToHex,
            FilterValue::ToInt => Filter::ToInt,
            FilterValue::ToString => Filter::ToString,
            FilterValue::UrlDecode => Filter::UrlDecode,
            FilterValue::UrlEncode => Filter::UrlEncode,
            FilterValue::UrlQueryParam { param, .. } => Filter::UrlQueryParam(template(param)?),
            FilterValue::Utf8Decode => Filter::Utf8Decode,
            FilterValue::Utf8Encode => Filter::Utf8Encode,
            _ => return Err(refused(filter)),
        })
    }

    /// Returns the changed value. A filter may find nothing.
    ///
    /// # Errors
    /// What was seen instead of a value that it can change.
    pub(crate) fn apply(
        &self,
        value: &Value,
        variables: &Variables,
    ) -> Result<Option<Value>, String> {
        Ok(Some(match self {
            Filter::Base64Decode => decoded(STANDARD.decode(text(value)?))?,
            Filter::Base64Encode => STANDARD.encode(bytes(value)?).into(),
            Filter::Base64UrlSafeDecode => decoded(URL_SAFE_NO_PAD.decode(text(value)?))?,
            Filter::Base64UrlSafeEncode => URL_SAFE_NO_PAD.encode(bytes(value)?).into(),
            Filter::Count => {
                Value::of_count(value.count().ok_or_else(|| needs("a collection", value))?)
            }
            Filter::First => return Ok(list(value)?.first().cloned()),
            Filter::Last => return Ok(list(value)?.last().cloned()),
            Filter::Nth(n) => return Ok(nth(list(value)?, *n).cloned()),
            Filter::JsonPath(path) => {
                let json = serde_json::from_str(text(value)?);
                return path.evaluate(
                    &json.map_err(|_| "a text that is no JSON".to_owned())?,
                    variables,
                );
            }
            Filter::Regex(pattern) => {
                let group = pattern.first_group(text(value)?, variables)?;
                return Ok(group.map(Value::from));
            }
            Filter::Replace(old, new) => text(value)?
                .replace(&old.render(variables)?, &new.render(variables)?)
                .into(),
            Filter::ReplaceRegex(pattern, new) => {
                let (regex, new) = (pattern.regex(variables)?, new.render(variables)?);
                regex.replace_all(text(value)?, new).into_owned().into()
            }
            Filter::Split(separator) => {
                let separator = separator.render(variables)?;
                Value::List(text(value)?.split(&separator).map(Value::from).collect())
            }
            Filter::ToFloat => Value::Number(number(value, Number::decimal, "a number")?),
            Filter::ToInt => Value::Number(number(value, Number::integer, "an integer")?),
            Filter::ToHex => hex(bytes(value)?).into(),
            Filter::ToString => value
                .text()
                .ok_or_else(|| needs("a value with a text", value))?
                .into(),
            Filter::UrlDecode => percent::decoded(text(value)?)?.into(),
            Filter::UrlEncode => percent::encoded(text(value)?).into(),
            Filter::UrlQueryParam(name) => {
                return query_param(text(value)?, &name.render(variables)?);
            }
            Filter::Utf8Decode => {
                let text = String::from_utf8(bytes(value)?.to_vec());
                text.map_err(|_| "bytes that are no UTF-8".to_owned())?
                    .into()
            }
            Filter::Utf8Encode => Value::Bytes(Bytes::copy_from_slice(text(value)?.as_bytes())),
        }))
    }
}

fn refused(filter: &ast::Filter) -> Refusal {
    let at = filter.source_info;
    match &filter.value {
        FilterValue::Nth { .. } => Refusal::new(
            at,
            "has a variable index of nth",
            "write a number, as in `nth 0`",
        ),
        value => Refusal::new(
            at,
            format!(
                "has the filter {}, which is not supported",
                value.identifier()
            ),
            "assert the value as it is; the documentation of hurl_checks lists the filters",
        ),
    }
}

fn needs(kind: &str, value: &Value) -> String {
    format!("{}, but the filter needs {kind}", value.kind())
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(needs("a string", value)),
    }
}

fn bytes(value: &Value) -> Result<&[u8], String> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::String(text) => Ok(text.as_bytes()),
        _ => Err(needs("bytes or a string", value)),
    }
}

fn list(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::List(values) => Ok(values),
        _ => Err(needs("a list", value)),
    }
}

fn nth(values: &[Value], n: i64) -> Option<&Value> {
    let from_end = || {
        values
            .len()
            .checked_sub(usize::try_from(n.unsigned_abs()).ok()?)
    };
    let index = usize::try_from(n).ok().or_else(from_end)?;
    values.get(index)
}

fn number(value: &Value, read: fn(&str) -> Option<Number>, kind: &str) -> Result<Number, String> {
    match value {
        Value::String(_) | Value::Number(_) => {
            let text = value.text().unwrap_or_default();
            read(&text).ok_or_else(|| format!("a text that is not {kind}"))
        }
        _ => Err(needs("a string or a number", value)),
    }
}

fn decoded(bytes: Result<Vec<u8>, base64::DecodeError>) -> Result<Value, String> {
    match bytes {
        Ok(bytes) => Ok(Value::Bytes(bytes.into())),
        Err(_) => Err("a text that is no Base64".to_owned()),
    }
}

fn query_param(url: &str, name: &str) -> Result<Option<Value>, String> {
    let query = url.split('#').next().and_then(|url| url.split_once('?'));
    let pairs = query.map_or("", |(_, query)| query).split('&');
    for pair in pairs {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        if percent::decoded(&found.replace('+', " "))? == name {
            return percent::decoded(&value.replace('+', " ")).map(|value| Some(value.into()));
        }
    }
    Ok(None)
}
