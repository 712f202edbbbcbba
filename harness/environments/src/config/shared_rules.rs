//! Rules that several tables of `harness.toml` share.

use std::time::Duration;

use hyper::Uri;
use hyper::http::HeaderName;
use toml::Spanned;

use super::Fault;
use super::schema::TargetKind;

const LONGEST_SECONDS: u32 = 24 * 3600;

pub(super) fn fault<T>(at: &Spanned<T>, message: String, help: impl Into<String>) -> Fault {
    Fault {
        span: at.span(),
        message,
        help: Some(help.into()),
    }
}

pub(super) fn needed<'a, T>(
    kind: &Spanned<TargetKind>,
    key: &str,
    value: &'a Option<Spanned<T>>,
) -> Result<&'a Spanned<T>, Fault> {
    value.as_ref().ok_or_else(|| {
        let message = format!("a target of this kind needs {key}");
        fault(
            kind,
            message,
            format!("docs/configuration.md explains {key}"),
        )
    })
}

/// An RFC 1123 label.
pub(super) fn validate_namespace(name: &Spanned<String>) -> Result<String, Fault> {
    match is_label(name.get_ref()) {
        true => Ok(name.get_ref().clone()),
        false => Err(fault(
            name,
            format!("{:?} cannot name a namespace", name.get_ref()),
            "1 to 63 lower-case letters, digits and '-', e.g. \"trii-platform\"",
        )),
    }
}

/// RFC 1123 host names, lower case.
pub(super) fn validate_host(host: &Spanned<String>) -> Result<String, Fault> {
    if host.get_ref().split('.').all(is_label) {
        return Ok(host.get_ref().clone());
    }
    Err(fault(
        host,
        format!("{:?} is not a host name", host.get_ref()),
        "lower case, without scheme, port or path, e.g. \"trii.co\"",
    ))
}

/// Returns the scheme, the host, the port, and the path with its query.
pub(super) fn url_parts(uri: &Uri) -> Option<(&str, &str, Option<u16>, &str)> {
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    Some((uri.scheme_str()?, uri.host()?, uri.port_u16(), path))
}

/// The path of a request. `example` is one.
pub(super) fn validate_path(path: &Spanned<String>, example: &str) -> Result<String, Fault> {
    let text = path.get_ref();
    match is_path(text) {
        true => Ok(text.clone()),
        false => Err(fault(
            path,
            format!("{text:?} is not the path of a request"),
            format!(
                "it starts with '/', and what is not ASCII is percent-encoded, e.g. {example:?}"
            ),
        )),
    }
}

/// A path with an optional query (RFC 9112, 3.2.1).
pub(super) fn is_path(text: &str) -> bool {
    let is_sent = |c: char| c.is_ascii_graphic() && c != '#';
    text.starts_with('/') && text.chars().all(is_sent)
}

pub(super) fn validate_variable_name(name: &Spanned<String>) -> Result<(), Fault> {
    let text = name.get_ref();
    match text.is_empty() || text.contains(['=', '\0']) {
        false => Ok(()),
        true => Err(fault(
            name,
            format!("{text:?} cannot name an environment variable"),
            "e.g. \"MARKET_DATA_URL\"",
        )),
    }
}

/// RFC 9110, 5.6.2.
pub(super) fn validate_header(header: &Spanned<String>) -> Result<HeaderName, Fault> {
    HeaderName::try_from(header.get_ref()).map_err(|_| {
        fault(
            header,
            format!("{:?} cannot be a header's name", header.get_ref()),
            "letters, digits and '-', e.g. \"x-preview\"",
        )
    })
}

pub(super) fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.chars().all(allowed)
}

pub(super) fn validate_deadline(seconds: &Spanned<u32>) -> Result<Duration, Fault> {
    validate_seconds(seconds, "deadline", 1)
}

pub(super) fn validate_seconds(
    seconds: &Spanned<u32>,
    of: &str,
    least: u32,
) -> Result<Duration, Fault> {
    match *seconds.get_ref() {
        value if (least..=LONGEST_SECONDS).contains(&value) => {
            Ok(Duration::from_secs(value.into()))
        }
        other => Err(fault(
            seconds,
            format!("a {of} of {other} seconds is not possible"),
            format!("a whole number of seconds, {least} to {LONGEST_SECONDS}"),
        )),
    }
}
