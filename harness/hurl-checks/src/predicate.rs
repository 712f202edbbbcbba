//! Predicates: what a value must be. <https://hurl.dev/docs/asserting-response.html#predicates>

use std::cmp::Ordering;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use hurl_core::ast::{self, PredicateFuncValue as Func, PredicateValue, SourceInfo};
use hurl_core::types::ToSource;
use jiff::Timestamp;
use regex::Regex;

use crate::body::multiline;
use crate::error::Refusal;
use crate::number::Number;
use crate::pattern::Pattern;
use crate::scope::Scope;
use crate::template::{Template, value_of};
use crate::value::Value;
use crate::variables::Variables;

/// The most digits that every `f64` of an answer keeps.
const EXACT_DIGITS: usize = 15;

/// The shape of RFC 3339, which is narrower than what [`Timestamp`] reads.
static RFC_3339: LazyLock<Regex> = LazyLock::new(|| {
    let shape = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$";
    Regex::new(shape).expect("the pattern is valid")
});

#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    not: bool,
    /// As Hurl writes it, as in `startsWith`.
    word: &'static str,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    /// A test of the value alone; none if it has no meaning for the value's type.
    Is(fn(&Value) -> Option<bool>),
    /// A test of the value, and of the one in the file; none if their types do not fit.
    Compared(fn(&Value, &Value) -> Option<bool>, Expected),
    Matches(Pattern),
}

/// The value in the file.
#[derive(Clone, Debug)]
enum Expected {
    Fixed(Value),
    Text(Template),
    Variable(String),
}

impl Predicate {
    pub(crate) fn read(predicate: &ast::Predicate, scope: &Scope) -> Result<Predicate, Refusal> {
        let func = &predicate.predicate_func;
        let at = func.source_info;
        let compared =
            |test, value| Expected::read(value, at, scope).map(|value| Test::Compared(test, value));
        let test = match &func.value {
            Func::Equal { value, .. } => compared(|seen, value| Some(seen == value), value)?,
            Func::NotEqual { value, .. } => compared(|seen, value| Some(seen != value), value)?,
            Func::GreaterThan { value, .. } => {
                compared(|a, b| order(a, b).map(Ordering::is_gt), value)?
            }
            Func::GreaterThanOrEqual { value, .. } => {
                compared(|a, b| order(a, b).map(Ordering::is_ge), value)?
            }
            Func::LessThan { value, .. } => {
                compared(|a, b| order(a, b).map(Ordering::is_lt), value)?
            }
            Func::LessThanOrEqual { value, .. } => {
                compared(|a, b| order(a, b).map(Ordering::is_le), value)?
            }
            Func::StartWith { value, .. } => compared(starts_with, value)?,
            Func::EndWith { value, .. } => compared(ends_with, value)?,
            Func::Contain { value, .. } | Func::Include { value, .. } => compared(contains, value)?,
            Func::Match { value, .. } => Test::Matches(pattern(value, at, scope)?),
            Func::Exist => Test::Exists,
            func => Test::Is(test_of_type(func, at)?),
        };
        let (not, word) = (predicate.not, func.value.identifier());
        Ok(Predicate { not, word, test })
    }

    /// Whether a value is as it must be. A value whose type does not fit is not, nor is none:
    /// not even with `not`.
    pub(crate) fn holds(
        &self,
        seen: Option<&Value>,
        variables: &Variables,
    ) -> Result<bool, String> {
        let result = match (&self.test, seen) {
            (Test::Exists, seen) => Some(seen.is_some()),
            (_, None) => None,
            (Test::Is(test), Some(seen)) => test(seen),
            (Test::Compared(test, value), Some(seen)) => test(seen, &value.render(variables)?),
            (Test::Matches(pattern), Some(seen)) => {
                let regex = pattern.regex(variables)?;
                text(seen).map(|text| regex.is_match(text))
            }
        };
        Ok(result.is_some_and(|result| result != self.not))
    }

    /// Returns what must hold, for a message.
    pub(crate) fn expected(&self, variables: &Variables) -> String {
        let not = if self.not { "not " } else { "" };
        let value = match &self.test {
            Test::Exists | Test::Is(_) => String::new(),
            Test::Matches(pattern) => format!(" {}", pattern.shown(variables)),
            Test::Compared(_, value) => {
                let value = value.render(variables);
                value.map_or_else(
                    |_| " a value".to_owned(),
                    |value| format!(" {}", value.json()),
                )
            }
        };
        format!("{not}{}{value}", self.word)
    }
}

/// Returns the test of a predicate without a value.
fn test_of_type(func: &Func, at: SourceInfo) -> Result<fn(&Value) -> Option<bool>, Refusal> {
    use Value::{Bool, Bytes, List, Number, Object, String};
    Ok(match func {
        Func::IsBoolean => |value| Some(matches!(value, Bool(_))),
        Func::IsString => |value| Some(matches!(value, String(_))),
        Func::IsNumber => |value| Some(matches!(value, Number(_))),
        Func::IsList => |value| Some(matches!(value, List(_))),
        Func::IsObject => |value| Some(matches!(value, Object(_))),
        Func::IsInteger => |value| Some(matches!(value, Number(n) if n.is_integer())),
        Func::IsFloat => |value| Some(matches!(value, Number(n) if !n.is_integer())),
        Func::IsCollection => |value| Some(matches!(value, List(_) | Object(_) | Bytes(_))),
        Func::IsEmpty => |value| value.count().map(|count| count == 0),
        Func::IsIpv4 => |value| text(value).map(|text| text.parse::<Ipv4Addr>().is_ok()),
        Func::IsIpv6 => |value| text(value).map(|text| text.parse::<Ipv6Addr>().is_ok()),
        Func::IsIsoDate => |value| text(value).map(is_iso_date),
        Func::IsUuid => |value| text(value).map(is_uuid),
        other => {
            let message = format!(
                "has the predicate {}, which is not supported",
                other.identifier()
            );
            let help = "for a date, write isIsoDate: a text of RFC 3339";
            return Err(Refusal::new(at, message, help));
        }
    })
}

impl Expected {
    fn read(value: &PredicateValue, at: SourceInfo, scope: &Scope) -> Result<Expected, Refusal> {
        Ok(match value {
            PredicateValue::Null => Expected::Fixed(Value::Null),
            PredicateValue::Bool(value) => Expected::Fixed(Value::Bool(*value)),
            PredicateValue::Number(value) => {
                Expected::Fixed(Value::Number(number(value, at, scope)?))
            }
            PredicateValue::Base64(base64) => {
                Expected::Fixed(Value::Bytes(base64.value.clone().into()))
            }
            PredicateValue::Hex(hex) => Expected::Fixed(Value::Bytes(hex.value.clone().into())),
            PredicateValue::String(text) => Expected::Text(Template::read(text, scope)?),
            PredicateValue::MultilineString(text) => Expected::Text(multiline(text, at, scope)?),
            PredicateValue::Placeholder(placeholder) => {
                Expected::Variable(scope.variable(&placeholder.expr)?)
            }
            PredicateValue::File(_) => {
                let message = "compares with a file (file,...;), which is not supported";
                return Err(Refusal::new(at, message, "write the value itself"));
            }
            PredicateValue::Regex(_) => {
                let message = "compares with a regular expression";
                return Err(Refusal::new(at, message, "write matches before it"));
            }
        })
    }

    fn render(&self, variables: &Variables) -> Result<Value, String> {
        match self {
            Expected::Fixed(value) => Ok(value.clone()),
            Expected::Text(template) => template.render(variables).map(Value::from),
            Expected::Variable(name) => value_of(name, variables).cloned(),
        }
    }
}

/// Reads a number as it is written.
fn number(number: &ast::Number, at: SourceInfo, scope: &Scope) -> Result<Number, Refusal> {
    let written = match number {
        // hurl_core drops the sign of an integer that is no i64.
        ast::Number::BigInteger(digits) => {
            let negative = format!("-{digits}");
            match scope.source.line(at.start.line).contains(&negative) {
                true => negative,
                false => digits.clone(),
            }
        }
        number => number.to_source().to_string(),
    };
    let digits = written.trim_start_matches(['-', '0', '.']).chars();
    let digits = digits.filter(char::is_ascii_digit).count();
    let read = match number {
        ast::Number::Float(_) if digits > EXACT_DIGITS => None,
        ast::Number::Float(_) => Number::decimal(&written),
        _ => Number::integer(&written),
    };
    read.ok_or_else(|| {
        Refusal::new(
            at,
            format!("compares with {written}, which cannot be compared exactly"),
            "write an integer of i64 or u64, a decimal of at most 15 digits, or a string",
        )
    })
}

fn pattern(value: &PredicateValue, at: SourceInfo, scope: &Scope) -> Result<Pattern, Refusal> {
    match value {
        PredicateValue::Regex(regex) => Ok(Pattern::Fixed(regex.inner.clone())),
        PredicateValue::String(text) => Pattern::of(text, scope),
        _ => Err(Refusal::new(
            at,
            "matches a value that is no regular expression",
            "write it between slashes, as in /^[a-z]+$/",
        )),
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn order(seen: &Value, expected: &Value) -> Option<Ordering> {
    match (seen, expected) {
        (Value::Number(seen), Value::Number(expected)) => seen.partial_cmp(expected),
        (Value::String(seen), Value::String(expected)) => Some(seen.cmp(expected)),
        _ => None,
    }
}

fn starts_with(seen: &Value, expected: &Value) -> Option<bool> {
    match (seen, expected) {
        (Value::String(seen), Value::String(expected)) => Some(seen.starts_with(expected)),
        (Value::Bytes(seen), Value::Bytes(expected)) => Some(seen.starts_with(expected)),
        _ => None,
    }
}

fn ends_with(seen: &Value, expected: &Value) -> Option<bool> {
    match (seen, expected) {
        (Value::String(seen), Value::String(expected)) => Some(seen.ends_with(expected)),
        (Value::Bytes(seen), Value::Bytes(expected)) => Some(seen.ends_with(expected)),
        _ => None,
    }
}

fn contains(seen: &Value, expected: &Value) -> Option<bool> {
    match (seen, expected) {
        (Value::String(seen), Value::String(expected)) => Some(seen.contains(expected)),
        (Value::List(seen), expected) => Some(seen.contains(expected)),
        (Value::Bytes(seen), Value::Bytes(expected)) => {
            let found = |part| part == expected;
            Some(expected.is_empty() || seen.windows(expected.len()).any(found))
        }
        _ => None,
    }
}

fn is_iso_date(text: &str) -> bool {
    RFC_3339.is_match(text) && text.parse::<Timestamp>().is_ok()
}

/// RFC 9562: 36 characters, of which four are hyphens.
fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    let digits = text
        .chars()
        .all(|digit| digit == '-' || digit.is_ascii_hexdigit());
    digits && lengths.eq([8, 4, 4, 4, 12])
}
