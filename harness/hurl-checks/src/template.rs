//! Templates: text with variables. <https://hurl.dev/docs/templates.html>

use hurl_core::ast::{self, Placeholder, TemplateElement};

use crate::error::Refusal;
use crate::scope::Scope;
use crate::value::{Value, json_escaped};
use crate::variables::Variables;

/// A text with variables.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub parts: Vec<Part>,
    /// The line of its beginning.
    pub line: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(String),
    Variable { name: String, form: Form },
}

/// How a template writes a variable's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// As it is.
    Plain,
    /// Within a JSON string.
    JsonString,
    /// As a JSON value.
    Json,
}

impl Template {
    pub(crate) fn read(template: &ast::Template, scope: &Scope) -> Result<Template, Refusal> {
        let mut read = Template::empty(template.source_info.start.line);
        read.append(template, Form::Plain, scope)?;
        Ok(read)
    }

    pub(crate) fn empty(line: usize) -> Template {
        let parts = Vec::new();
        Template { parts, line }
    }

    /// Appends the parts of a template. Its text is escaped like its variables.
    pub(crate) fn append(
        &mut self,
        template: &ast::Template,
        form: Form,
        scope: &Scope,
    ) -> Result<(), Refusal> {
        for element in &template.elements {
            match element {
                TemplateElement::String { value, .. } if form == Form::JsonString => {
                    self.push(json_escaped(value));
                }
                TemplateElement::String { value, .. } => self.push(value.clone()),
                TemplateElement::Placeholder(placeholder) => {
                    self.append_variable(placeholder, form, scope)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn append_variable(
        &mut self,
        placeholder: &Placeholder,
        form: Form,
        scope: &Scope,
    ) -> Result<(), Refusal> {
        let name = scope.variable(&placeholder.expr)?;
        self.parts.push(Part::Variable { name, form });
        Ok(())
    }

    pub(crate) fn push(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Text(text.into()));
    }

    /// Returns its text, if it reads no variable.
    pub(crate) fn fixed(&self) -> Option<String> {
        let text = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Variable { .. } => None,
        };
        self.parts.iter().map(text).collect()
    }

    /// Whether it reads a secret.
    pub(crate) fn reads_secret(&self, variables: &Variables) -> bool {
        let secret =
            |part: &Part| matches!(part, Part::Variable { name, .. } if variables.is_secret(name));
        self.parts.iter().any(secret)
    }

    /// Returns its text.
    ///
    /// # Errors
    /// The variable that has no value, or none that a text can have.
    pub(crate) fn render(&self, variables: &Variables) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Variable { name, form } => text.push_str(&written(name, *form, variables)?),
            }
        }
        Ok(text)
    }
}

/// Returns what a template writes for a variable.
pub(crate) fn written(name: &str, form: Form, variables: &Variables) -> Result<String, String> {
    let value = value_of(name, variables)?;
    let text = match form {
        Form::Plain => value.text(),
        Form::JsonString => value.text().map(|text| json_escaped(&text)),
        Form::Json if matches!(value, Value::Bytes(_)) => None,
        Form::Json => Some(value.json()),
    };
    text.ok_or_else(|| format!("{{{{{name}}}}} is {}, which has no text", value.kind()))
}

/// Returns a variable's value, or that it has none.
pub(crate) fn value_of<'a>(name: &str, variables: &'a Variables) -> Result<&'a Value, String> {
    let value = variables.get(name);
    value.ok_or_else(|| format!("{{{{{name}}}}} has no value: no capture and no caller has set it"))
}
