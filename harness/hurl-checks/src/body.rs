//! Bodies: of requests, and those that answers must have. <https://hurl.dev/docs/request.html#body>

use bytes::Bytes;
use hurl_core::ast::{self, JsonValue, MultilineString, MultilineStringKind, SourceInfo};

use crate::error::Refusal;
use crate::scope::Scope;
use crate::template::{Form, Template};
use crate::variables::Variables;

/// A body as the file has it.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// JSON: every value of a variable is escaped.
    Json(Template),
    Text(Template),
    Bytes(Bytes),
}

impl Body {
    pub(crate) fn read(body: &ast::Body, scope: &Scope) -> Result<Body, Refusal> {
        let at = body.space0.source_info;
        match &body.value {
            ast::Bytes::Json(json) => json_body(json, at, scope),
            ast::Bytes::OnelineString(text) => Template::read(text, scope).map(Body::Text),
            ast::Bytes::MultilineString(text) => multiline(text, at, scope).map(Body::Text),
            ast::Bytes::Base64(base64) => Ok(Body::Bytes(base64.value.clone().into())),
            ast::Bytes::Hex(hex) => Ok(Body::Bytes(hex.value.clone().into())),
            ast::Bytes::File(_) => Err(Refusal::new(
                at,
                "has the body of a file (file,...;), which is not supported",
                "write the body itself: JSON, text between ```, base64,...; or hex,...;",
            )),
            ast::Bytes::Xml(_) => Err(Refusal::new(
                at,
                "has an XML body, which is not supported",
                "write it as text, between ```",
            )),
        }
    }

    pub(crate) fn render(&self, variables: &Variables) -> Result<Bytes, String> {
        match self {
            Body::Json(template) | Body::Text(template) => {
                template.render(variables).map(Bytes::from)
            }
            Body::Bytes(bytes) => Ok(bytes.clone()),
        }
    }
}

/// Reads a text between three backticks.
pub(crate) fn multiline(
    text: &MultilineString,
    at: SourceInfo,
    scope: &Scope,
) -> Result<Template, Refusal> {
    match &text.kind {
        MultilineStringKind::Text(template) | MultilineStringKind::Raw(template) => {
            Template::read(template, scope)
        }
        _ => Err(Refusal::new(
            at,
            format!(
                "has a text of the language {:?}, which is not supported",
                text.lang()
            ),
            "write JSON without the ```, so that its variables are escaped, or ``` without a language",
        )),
    }
}

fn json_body(json: &JsonValue, at: SourceInfo, scope: &Scope) -> Result<Body, Refusal> {
    let mut template = Template::empty(at.end.line);
    append_json(&mut template, json, at, scope)?;
    Ok(Body::Json(template))
}

/// Appends JSON as it is written, so that numbers and the order of members stay.
fn append_json(
    template: &mut Template,
    json: &JsonValue,
    at: SourceInfo,
    scope: &Scope,
) -> Result<(), Refusal> {
    match json {
        JsonValue::Placeholder(placeholder) => {
            template.append_variable(placeholder, Form::Json, scope)?;
        }
        JsonValue::String(text) => append_string(template, text, scope)?,
        JsonValue::Null => template.push("null"),
        JsonValue::Boolean(value) => template.push(value.to_string()),
        // hurl_core takes an exponent without digits.
        JsonValue::Number(number) if number.ends_with(['e', '+', '-']) => {
            let message = format!("has {number}, which is no JSON number");
            return Err(Refusal::new(at, message, "write digits after the exponent"));
        }
        JsonValue::Number(number) => template.push(number),
        JsonValue::List { space0, elements } => {
            template.push(format!("[{space0}"));
            for (index, element) in elements.iter().enumerate() {
                template.push(separator(index) + &element.space0);
                append_json(template, &element.value, at, scope)?;
                template.push(&element.space1);
            }
            template.push("]");
        }
        JsonValue::Object { space0, elements } => {
            template.push(format!("{{{space0}"));
            for (index, member) in elements.iter().enumerate() {
                template.push(separator(index) + &member.space0);
                append_string(template, &member.name, scope)?;
                template.push(format!("{}:{}", member.space1, member.space2));
                append_json(template, &member.value, at, scope)?;
                template.push(&member.space3);
            }
            template.push("}");
        }
    }
    Ok(())
}

fn separator(index: usize) -> String {
    let text = if index == 0 { "" } else { "," };
    text.to_owned()
}

fn append_string(
    template: &mut Template,
    text: &ast::Template,
    scope: &Scope,
) -> Result<(), Refusal> {
    template.push("\"");
    template.append(text, Form::JsonString, scope)?;
    template.push("\"");
    Ok(())
}
