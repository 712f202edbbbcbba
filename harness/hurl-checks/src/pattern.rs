//! Regular expressions. <https://hurl.dev/docs/asserting-response.html#regex-assert>

use std::borrow::Cow;

use hurl_core::ast::{self, RegexValue};
use regex::Regex;

use crate::error::Refusal;
use crate::scope::Scope;
use crate::template::Template;
use crate::variables::Variables;

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Fixed(Regex),
    Rendered(Template),
}

impl Pattern {
    pub(crate) fn read(value: &RegexValue, scope: &Scope) -> Result<Pattern, Refusal> {
        match value {
            RegexValue::Regex(regex) => Ok(Pattern::Fixed(regex.inner.clone())),
            RegexValue::Template(template) => Pattern::of(template, scope),
        }
    }

    pub(crate) fn of(text: &ast::Template, scope: &Scope) -> Result<Pattern, Refusal> {
        let template = Template::read(text, scope)?;
        let Some(fixed) = template.fixed() else {
            return Ok(Pattern::Rendered(template));
        };
        Regex::new(&fixed).map(Pattern::Fixed).map_err(|_| {
            let message = format!("has {fixed:?}, which is no regular expression");
            let help = "write one of the syntax of https://docs.rs/regex, as in /^[a-z]+$/";
            Refusal::new(text.source_info, message, help)
        })
    }

    pub(crate) fn regex(&self, variables: &Variables) -> Result<Cow<'_, Regex>, String> {
        match self {
            Pattern::Fixed(regex) => Ok(Cow::Borrowed(regex)),
            Pattern::Rendered(template) => {
                let text = template.render(variables)?;
                let regex = Regex::new(&text).map(Cow::Owned);
                regex.map_err(|_| format!("the pattern /{text}/, which is not valid"))
            }
        }
    }

    /// Returns the expression in slashes, for a message.
    pub(crate) fn shown(&self, variables: &Variables) -> String {
        match self {
            Pattern::Fixed(regex) => format!("/{regex}/"),
            Pattern::Rendered(template) => {
                let text = template.render(variables);
                text.map_or_else(|_| "a pattern".to_owned(), |text| format!("/{text}/"))
            }
        }
    }

    /// Returns the first group of the first match.
    pub(crate) fn first_group(
        &self,
        text: &str,
        variables: &Variables,
    ) -> Result<Option<String>, String> {
        let regex = self.regex(variables)?;
        if regex.captures_len() < 2 {
            return Err(format!(
                "the pattern /{regex}/, which has no group in parentheses"
            ));
        }
        let group = regex.captures(text).and_then(|captures| captures.get(1));
        Ok(group.map(|group| group.as_str().to_owned()))
    }
}
