//! Tests of whole files: what is refused, what is sent, and how answers are evaluated.

mod evaluation;
mod refusals;
mod requests;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use crate::{Entry, HurlFile, HurlFileError, Response, Variables};

/// Parses a file whose caller sets `site` and `password`.
fn parse(text: &str) -> Result<HurlFile, HurlFileError> {
    let known = ["site", "password"].map(str::to_owned);
    HurlFile::parse(Path::new("checks/login.hurl"), text, &BTreeSet::from(known))
}

fn entry(text: &str) -> Entry {
    parse(text).unwrap().entries()[0].clone()
}

fn variables() -> Variables {
    let mut variables = Variables::new();
    variables.insert("site", "http://shop.test:8080");
    variables.insert_secret("password", "it's \"s3cret\"");
    variables
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    Response {
        url: "http://shop.test:8080/login".to_owned(),
        version: Version::HTTP_11,
        status: StatusCode::from_u16(status).unwrap(),
        headers: map,
        body: body.to_owned().into(),
        duration: Duration::from_millis(120),
    }
}
