//! Variables, and what messages may show of them.

use std::collections::BTreeMap;
use std::fmt;

use crate::percent;
use crate::value::{Value, hex, json_escaped};

/// What a message shows instead of a secret.
const REDACTED: &str = "***";
/// The longest value that a message shows, in characters.
const SHOWN: usize = 160;

/// The variables of a run: those of the caller, and those that entries capture.
///
/// A secret's value is in no message of this crate, nor in this type's `Debug`: not as it is, and
/// not JSON-, percent- or hex-encoded. `***` stands for it.
#[derive(Clone, Default)]
pub struct Variables {
    values: BTreeMap<String, Variable>,
}

#[derive(Clone)]
struct Variable {
    value: Value,
    secret: bool,
}

impl Variables {
    /// None.
    pub fn new() -> Variables {
        Variables::default()
    }

    /// Sets a variable. One that was secret stays secret.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        let secret = self.is_secret(&name);
        self.values.insert(name, Variable { value, secret });
    }

    /// Sets a variable whose value no message shows.
    pub fn insert_secret(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let (value, secret) = (value.into(), true);
        self.values.insert(name.into(), Variable { value, secret });
    }

    /// Returns a variable's value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).map(|variable| &variable.value)
    }

    /// Whether no message shows this variable.
    pub fn is_secret(&self, name: &str) -> bool {
        self.values
            .get(name)
            .is_some_and(|variable| variable.secret)
    }

    /// Replaces each secret in a text by `***`.
    pub fn redact(&self, text: &str) -> String {
        let mut forms = Vec::new();
        for variable in self.values.values().filter(|variable| variable.secret) {
            collect_forms(&variable.value, &mut forms);
        }
        // A secret may contain another one.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms
            .iter()
            .fold(text.to_owned(), |text, form| text.replace(form, REDACTED))
    }

    /// Shows a text in a message: redacted, then cut.
    pub(crate) fn cut(&self, text: &str) -> String {
        let text = self.redact(text);
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}... ({} characters)", &text[..end], text.chars().count()),
            None => text,
        }
    }
}

/// Collects the texts by which a message could show a secret.
fn collect_forms(value: &Value, forms: &mut Vec<String>) {
    match value {
        Value::List(values) => values.iter().for_each(|value| collect_forms(value, forms)),
        Value::Object(members) => members
            .values()
            .for_each(|value| collect_forms(value, forms)),
        Value::Bytes(bytes) if !bytes.is_empty() => forms.push(hex(bytes)),
        // They hide nothing, and every message has their texts.
        Value::Bytes(_) | Value::Null | Value::Bool(_) => {}
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => {
            forms.extend([
                json_escaped(text),
                percent::encoded(text),
                hex(text.as_bytes()),
                text.clone(),
            ]);
        }
        Value::Number(number) => forms.push(number.to_string()),
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, variable) in &self.values {
            let shown = match variable.secret {
                true => REDACTED.to_owned(),
                false => self.cut(&variable.value.json()),
            };
            map.entry(name, &format_args!("{shown}"));
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let mut variables = Variables::new();
        variables.insert_secret("token", "a\"b/c");
        variables.insert("header", "Bearer a\"b/c");
        variables.insert("token", "d\"e/f");
        variables.insert("url", "/?t=d%22e%2Ff");
        variables.insert("old", "Bearer a\"b/c");
        let debug = format!("{variables:?}");
        assert_eq!(
            debug,
            r#"{"header": "Bearer a\"b/c", "old": "Bearer a\"b/c", "token": ***, "url": "/?t=***"}"#
        );
    }

    proptest! {
        #[test]
        fn no_text_shows_a_secret(secret in "[a-z\"\\\\/ é]{3,9}", around in "[A-Z]{0,300}") {
            let mut variables = Variables::new();
            variables.insert_secret("secret", secret.as_str());
            let shown = variables.cut(&Value::from(format!("{around}{secret}{around}")).json());
            prop_assert!(!shown.contains(&secret) && !shown.contains(&json_escaped(&secret)));
        }
    }
}
