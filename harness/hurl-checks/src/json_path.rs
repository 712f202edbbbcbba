//! JSONPath: RFC 9535. <https://hurl.dev/docs/asserting-response.html#jsonpath-assert>

use hurl_core::ast;
use jsonpath_rust::parser::errors::JsonPathError;
use jsonpath_rust::parser::model::{JpQuery, Segment, Selector};
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;

use crate::error::Refusal;
use crate::scope::Scope;
use crate::template::Template;
use crate::value::Value;
use crate::variables::Variables;

/// A path into JSON. Numbers in its own filters (`[?@.id == 1]`) compare as `f64`.
#[derive(Clone, Debug)]
pub(crate) enum JsonPath {
    Fixed(JpQuery),
    Rendered(Template),
}

impl JsonPath {
    pub(crate) fn read(path: &ast::Template, scope: &Scope) -> Result<JsonPath, Refusal> {
        let template = Template::read(path, scope)?;
        let Some(text) = template.fixed() else {
            return Ok(JsonPath::Rendered(template));
        };
        let parsed = parse_json_path(&text).map(JsonPath::Fixed);
        parsed.map_err(|error| {
            let message = format!("has {text:?}, which is no JSONPath: {}", reason(&error));
            Refusal::new(
                path.source_info,
                message,
                "write a path of RFC 9535, as in \"$.items[0].id\"",
            )
        })
    }

    /// Returns the value of a definite path, if there is one, and else the list of all values.
    pub(crate) fn evaluate(
        &self,
        json: &serde_json::Value,
        variables: &Variables,
    ) -> Result<Option<Value>, String> {
        match self {
            JsonPath::Fixed(path) => values(path, json),
            JsonPath::Rendered(template) => {
                let text = template.render(variables)?;
                let wrong = |_| format!("the JSONPath {text}, which is not valid");
                values(&parse_json_path(&text).map_err(wrong)?, json)
            }
        }
    }
}

fn values(path: &JpQuery, json: &serde_json::Value) -> Result<Option<Value>, String> {
    let found = js_path_process(path, json).map_err(|error| error.to_string())?;
    let mut values = found.into_iter().map(|found| Value::from(found.val()));
    Ok(match is_definite(path) {
        true => values.next(),
        false => Some(Value::List(values.collect())),
    })
}

/// Whether a path can find one value at most: a "singular query" of RFC 9535.
fn is_definite(path: &JpQuery) -> bool {
    let singular = |segment: &Segment| {
        matches!(
            segment,
            Segment::Selector(Selector::Name(_) | Selector::Index(_))
        )
    };
    path.segments.iter().all(singular)
}

/// Returns the last line of the parser's message: what it expected.
fn reason(error: &JsonPathError) -> String {
    let text = error.to_string();
    let last = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    last.unwrap_or_default().trim_start_matches("= ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definite_path_gives_the_value_and_another_one_a_list() {
        let json = serde_json::json!({"a": [{"b": 1}, {"b": 2}], "c d": null});
        let at = |path: &str| {
            let found = values(&parse_json_path(path).unwrap(), &json).unwrap();
            found.map(|value| value.json())
        };
        assert_eq!(at("$.a[0].b").as_deref(), Some("1"));
        assert_eq!(at("$['a'][-1]['b']").as_deref(), Some("2"));
        assert_eq!(at("$['c d']").as_deref(), Some("null"));
        assert_eq!(at("$.x"), None);
        assert_eq!(at("$.a[*].b").as_deref(), Some("[1,2]"));
        assert_eq!(at("$.a[?@.b > 1].b").as_deref(), Some("[2]"));
        assert_eq!(at("$..x").as_deref(), Some("[]"));
        assert_eq!(at("$.a[0:1].b").as_deref(), Some("[1]"));
        assert_eq!(at("$.a[0,1].b").as_deref(), Some("[1,2]"));
    }
}
