//! Requests. <https://hurl.dev/docs/request.html>

use std::fmt::Display;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use hurl_core::ast::{self, KeyValue, SectionValue};

use crate::body::Body;
use crate::error::{EntryError, Refusal};
use crate::options::Options;
use crate::percent;
use crate::scope::Scope;
use crate::template::{Part, Template};
use crate::variables::Variables;

const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// A request as the file has it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub method: Method,
    pub url: Template,
    pub headers: Vec<Pair>,
    pub query: Vec<Pair>,
    pub form: Vec<Pair>,
    pub cookies: Vec<Pair>,
    pub basic_auth: Option<Pair>,
    pub body: Option<Body>,
    pub options: Options,
}

/// A name and its value.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub name: Template,
    pub value: Template,
}

impl Request {
    pub(crate) fn read(request: &ast::Request, scope: &Scope) -> Result<Request, Refusal> {
        let at = request.url.source_info;
        let mut read = Request {
            method: method(request)?,
            url: url(&request.url, scope)?,
            headers: pairs(&request.headers, scope)?,
            query: Vec::new(),
            form: Vec::new(),
            cookies: Vec::new(),
            basic_auth: None,
            body: None,
            options: Options::default(),
        };
        for section in &request.sections {
            read.section(section, scope)?;
        }
        let body = request.body.as_ref().map(|body| Body::read(body, scope));
        read.body = body.transpose()?;
        match read.body.is_some() && !read.form.is_empty() {
            true => Err(Refusal::new(
                at,
                "has a body and form parameters",
                "remove one: the form parameters are the body",
            )),
            false => Ok(read),
        }
    }

    fn section(&mut self, section: &ast::Section, scope: &Scope) -> Result<(), Refusal> {
        match &section.value {
            SectionValue::QueryParams(params, _) => self.query = pairs(params, scope)?,
            SectionValue::FormParams(params, _) => self.form = pairs(params, scope)?,
            SectionValue::BasicAuth(auth) => {
                let auth = auth
                    .as_ref()
                    .map(|auth| pair(&auth.key, &auth.value, scope));
                self.basic_auth = auth.transpose()?;
            }
            SectionValue::Cookies(cookies) => {
                let cookies = cookies.iter();
                let cookies = cookies.map(|cookie| pair(&cookie.name, &cookie.value, scope));
                self.cookies = cookies.collect::<Result<_, _>>()?;
            }
            SectionValue::Options(options) => self.options = Options::read(options)?,
            SectionValue::MultipartFormData(..)
            | SectionValue::Captures(_)
            | SectionValue::Asserts(_) => {
                return Err(Refusal::new(
                    section.source_info,
                    format!("has [{}], which is not supported", section.identifier()),
                    "send [FormParams], or write the whole body as text and set its Content-Type",
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn render(&self, variables: &Variables) -> Result<http::Request<Bytes>, EntryError> {
        let mut request = http::Request::new(self.rendered_body(variables)?);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.rendered_url(variables)?;
        *request.headers_mut() = self.rendered_headers(variables)?;
        Ok(request)
    }

    fn rendered_url(&self, variables: &Variables) -> Result<Uri, EntryError> {
        let mut url = render(&self.url, variables)?;
        if !self.query.is_empty() {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&urlencoded(&self.query, variables)?);
        }
        let wrong = |why: &dyn Display| EntryError {
            line: self.url.line,
            message: format!("the URL {:?} {why}", variables.cut(&url)),
        };
        let uri: Uri = url
            .parse()
            .map_err(|error| wrong(&format!("is not valid: {error}")))?;
        match uri.scheme_str() {
            Some("http" | "https") => Ok(uri),
            _ => Err(wrong(&"does not begin with http:// or https://")),
        }
    }

    fn rendered_headers(&self, variables: &Variables) -> Result<HeaderMap, EntryError> {
        let mut headers = HeaderMap::new();
        for Pair { name, value } in &self.headers {
            let text = render(name, variables)?;
            let parsed = text.parse::<HeaderName>();
            let parsed = parsed.map_err(|_| no_header(name, "name", &text, variables))?;
            headers.append(
                parsed,
                header_value(value, &render(value, variables)?, variables)?,
            );
        }
        if !self.cookies.is_empty() {
            let cookies = joined(&self.cookies, "=");
            let text = render(&cookies, variables)?;
            headers.append(COOKIE, header_value(&cookies, &text, variables)?);
        }
        if let Some(auth) = &self.basic_auth {
            let credentials = joined(std::slice::from_ref(auth), ":");
            let text = STANDARD.encode(render(&credentials, variables)?);
            let mut header = header_value(&credentials, &format!("Basic {text}"), variables)?;
            header.set_sensitive(true);
            headers.append(AUTHORIZATION, header);
        }
        if let Some(content_type) = self.content_type() {
            let value = HeaderValue::from_static(content_type);
            headers.entry(CONTENT_TYPE).or_insert(value);
        }
        Ok(headers)
    }

    fn rendered_body(&self, variables: &Variables) -> Result<Bytes, EntryError> {
        match &self.body {
            Some(body) => body.render(variables).map_err(|message| EntryError {
                line: self.url.line,
                message,
            }),
            None => urlencoded(&self.form, variables).map(Bytes::from),
        }
    }

    /// Returns the type of the body, for a request that names none.
    pub(crate) fn content_type(&self) -> Option<&'static str> {
        match &self.body {
            Some(Body::Json(_)) => Some("application/json"),
            None if !self.form.is_empty() => Some("application/x-www-form-urlencoded"),
            _ => None,
        }
    }
}

fn render(template: &Template, variables: &Variables) -> Result<String, EntryError> {
    let line = template.line;
    template
        .render(variables)
        .map_err(|message| EntryError { line, message })
}

/// Writes parameters as `application/x-www-form-urlencoded`, with `%20` for a space.
fn urlencoded(pairs: &[Pair], variables: &Variables) -> Result<String, EntryError> {
    let encoded = |template: &Template| {
        let text = render(template, variables)?;
        Ok(percent::encoded(&text))
    };
    let pair = |pair: &Pair| {
        Ok(format!(
            "{}={}",
            encoded(&pair.name)?,
            encoded(&pair.value)?
        ))
    };
    let pairs = pairs.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    Ok(pairs.join("&"))
}

fn header_value(
    template: &Template,
    text: &str,
    variables: &Variables,
) -> Result<HeaderValue, EntryError> {
    let value = HeaderValue::from_bytes(text.as_bytes());
    let mut value = value.map_err(|_| no_header(template, "value", text, variables))?;
    // Then its `Debug` does not show it.
    value.set_sensitive(template.reads_secret(variables));
    Ok(value)
}

fn no_header(template: &Template, part: &str, text: &str, variables: &Variables) -> EntryError {
    EntryError {
        line: template.line,
        message: format!("{:?} cannot be the {part} of a header", variables.cut(text)),
    }
}

/// Returns a method. hurl_core takes any word in capitals.
fn method(request: &ast::Request) -> Result<Method, Refusal> {
    let method = request.method.to_string();
    let known = METHODS.iter().find(|known| known.as_str() == method);
    known.cloned().ok_or_else(|| {
        Refusal::new(
            request.url.source_info,
            format!("has the method {method}"),
            "write GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS",
        )
    })
}

/// Reads a URL. hurl_core takes any text.
fn url(url: &ast::Template, scope: &Scope) -> Result<Template, Refusal> {
    let read = Template::read(url, scope)?;
    let is_absolute = match read.parts.first() {
        Some(Part::Variable { .. }) => true,
        Some(Part::Text(text)) => text.starts_with("http://") || text.starts_with("https://"),
        None => false,
    };
    let message = "has a URL without http:// or https://";
    let help = "begin it with a variable that has the host, as in {{site}}/health";
    let refusal = || Refusal::new(url.source_info, message, help);
    is_absolute.then_some(read).ok_or_else(refusal)
}

/// Puts names and values into one template, as in `a=1; b=2`.
pub(crate) fn joined(pairs: &[Pair], separator: &str) -> Template {
    let line = pairs.first().map_or(0, |pair| pair.name.line);
    let mut template = Template::empty(line);
    for (index, Pair { name, value }) in pairs.iter().enumerate() {
        template.push(if index == 0 { "" } else { "; " });
        template.parts.extend(name.parts.iter().cloned());
        template.push(separator);
        template.parts.extend(value.parts.iter().cloned());
    }
    template
}

fn pairs(pairs: &[KeyValue], scope: &Scope) -> Result<Vec<Pair>, Refusal> {
    let pairs = pairs.iter();
    pairs
        .map(|read| pair(&read.key, &read.value, scope))
        .collect()
}

fn pair(name: &ast::Template, value: &ast::Template, scope: &Scope) -> Result<Pair, Refusal> {
    Ok(Pair {
        name: Template::read(name, scope)?,
        value: Template::read(value, scope)?,
    })
}
