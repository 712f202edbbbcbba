//! The answer to a request, as the caller received it.

use std::cell::OnceCell;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};

use crate::value::Value;

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Response {
    /// The URL that answered.
    pub url: String,
    /// HTTP's version.
    pub version: Version,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Bytes,
    /// From the beginning of the request to the last byte of the body.
    pub duration: Duration,
}

/// A response that is parsed once, however many queries read its JSON.
pub(crate) struct Parsed<'a> {
    pub response: &'a Response,
    json: OnceCell<Result<serde_json::Value, String>>,
}

impl<'a> Parsed<'a> {
    pub(crate) fn new(response: &'a Response) -> Parsed<'a> {
        let json = OnceCell::new();
        Parsed { response, json }
    }

    /// Returns the body as JSON.
    ///
    /// # Errors
    /// That it is none.
    pub(crate) fn json(&self) -> Result<&serde_json::Value, String> {
        let read = || match serde_json::from_slice(&self.response.body) {
            Ok(json) => Ok(json),
            Err(_) => Err(format!("the body {}, which is no JSON", self.lossy())),
        };
        self.json.get_or_init(read).as_ref().map_err(String::clone)
    }

    /// Returns the body for a message, in quotes.
    pub(crate) fn lossy(&self) -> String {
        let text = String::from_utf8_lossy(&self.response.body).into_owned();
        Value::from(text).json()
    }

    /// Returns the body as text.
    ///
    /// # Errors
    /// That it is none.
    pub(crate) fn text(&self) -> Result<&str, String> {
        let text = std::str::from_utf8(&self.response.body);
        text.map_err(|_| "a body that is no UTF-8".to_owned())
    }
}
