//! Values: of variables, of queries and of predicates.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::number::Number;

/// A value of a variable or of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// JSON's `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    String(String),
    /// Bytes, of the queries `bytes` and `sha256` and of some filters.
    Bytes(Bytes),
    /// A list.
    List(Vec<Value>),
    /// A JSON object.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// Returns its type, as a noun for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(number) if number.is_integer() => "an integer",
            Value::Number(_) => "a decimal",
            Value::String(_) => "a string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    /// Returns what a template writes for it. Bytes, lists and objects have no text.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Value::Null => Some("null".to_owned()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(value) => Some(value.to_string()),
            Value::String(value) => Some(value.clone()),
            Value::Bytes(_) | Value::List(_) | Value::Object(_) => None,
        }
    }

    /// Returns it as JSON. Bytes are written as Hurl writes them: `hex,00ff;`.
    pub(crate) fn json(&self) -> String {
        match self {
            Value::Null | Value::Bool(_) | Value::Number(_) => self.text().unwrap_or_default(),
            Value::String(value) => format!("\"{}\"", json_escaped(value)),
            Value::Bytes(bytes) => format!("hex,{};", hex(bytes)),
            Value::List(values) => {
                let values: Vec<String> = values.iter().map(Value::json).collect();
                format!("[{}]", values.join(","))
            }
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| {
                    format!("\"{}\":{}", json_escaped(name), value.json())
                };
                let members: Vec<String> = members.iter().map(member).collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }

    /// Returns the number of elements, members, characters or bytes.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            Value::List(values) => Some(values.len()),
            Value::Object(members) => Some(members.len()),
            Value::Bytes(bytes) => Some(bytes.len()),
            Value::String(text) => Some(text.chars().count()),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    /// A number of things.
    pub(crate) fn of_count(count: usize) -> Value {
        Value::Number(Number::Integer(count as i128))
    }
}

/// Escapes a text for a JSON string, without the quotes.
pub(crate) fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Writes bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::String(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Number(Number::Integer(value.into()))
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Number(Number::Integer(value.into()))
    }
}

impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Value {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::String(value) => Value::String(value.clone()),
            serde_json::Value::Array(values) => {
                Value::List(values.iter().map(Value::from).collect())
            }
            serde_json::Value::Object(members) => {
                let members = members
                    .iter()
                    .map(|(name, value)| (name.clone(), value.into()));
                Value::Object(members.collect())
            }
            serde_json::Value::Number(value) => {
                let text = value.to_string();
                let number = Number::integer(&text).or_else(|| value.as_f64().map(Number::from));
                number.map_or(Value::Null, Value::Number)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_after_it_was_a_value() {
        let text = r#"{"a":[1,-2,0.5,true,null],"b":"\"\\\n","max":18446744073709551615}"#;
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::from(&json).json(), text);
    }
}
