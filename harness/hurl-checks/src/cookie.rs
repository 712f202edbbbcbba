//! Cookies of an answer. <https://hurl.dev/docs/asserting-response.html#cookie-assert>

use http::HeaderMap;
use http::header::SET_COOKIE;
use hurl_core::ast::CookieAttributeName;

use crate::number::Number;
use crate::value::Value;

/// A part of a cookie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Attribute {
    Value,
    /// A number.
    MaxAge,
    /// An attribute with a text, by its name.
    Text(&'static str),
    /// An attribute without a value: it is there, or it is not.
    Flag(&'static str),
}

impl Attribute {
    pub(crate) fn read(name: &CookieAttributeName) -> Attribute {
        match name {
            CookieAttributeName::Value(_) => Attribute::Value,
            CookieAttributeName::MaxAge(_) => Attribute::MaxAge,
            CookieAttributeName::Expires(_) => Attribute::Text("Expires"),
            CookieAttributeName::Domain(_) => Attribute::Text("Domain"),
            CookieAttributeName::Path(_) => Attribute::Text("Path"),
            CookieAttributeName::SameSite(_) => Attribute::Text("SameSite"),
            CookieAttributeName::Secure(_) => Attribute::Flag("Secure"),
            CookieAttributeName::HttpOnly(_) => Attribute::Flag("HttpOnly"),
        }
    }

    /// Returns this part of the last `Set-Cookie` with the name.
    pub(crate) fn of(self, cookie: &str, headers: &HeaderMap) -> Option<Value> {
        let headers = headers.get_all(SET_COOKIE).into_iter();
        let mut texts = headers.filter_map(|header| std::str::from_utf8(header.as_bytes()).ok());
        let named = |text: &&str| pair(text.split(';').next().unwrap_or_default()).0 == cookie;
        let mut parts = texts.rfind(named)?.split(';').map(pair);
        let value = parts.next()?.1.unwrap_or_default();
        let mut attribute = |name: &str| parts.find(|(found, _)| found.eq_ignore_ascii_case(name));
        match self {
            Attribute::Value => Some(value.into()),
            Attribute::MaxAge => {
                let text = attribute("Max-Age")?.1?;
                Some(Number::integer(text).map_or_else(|| text.into(), Value::Number))
            }
            Attribute::Text(name) => attribute(name)?.1.map(Value::from),
            Attribute::Flag(name) => attribute(name).map(|_| true.into()),
        }
    }
}

/// Splits `name=value`.
fn pair(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (text.trim(), None),
    }
}
