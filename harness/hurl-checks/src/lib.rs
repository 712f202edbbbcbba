//! Reads checks in [Hurl's format](https://hurl.dev), renders their requests and evaluates the
//! answers. It sends nothing and reads no file: the caller does, by its own client.
//!
//! ```
//! # use std::{collections::BTreeSet, path::Path};
//! use hurl_checks::{HurlFile, Variables};
//!
//! let text = "
//! ## An investor logs in
//! POST {{site}}/login
//! {\"user\": \"ana\", \"password\": \"{{password}}\"}
//! HTTP 200
//! [Captures]
//! token: jsonpath \"$.token\" redact
//! [Asserts]
//! jsonpath \"$.balance\" >= 0.10
//! ";
//! let known = BTreeSet::from(["site".to_owned(), "password".to_owned()]);
//! let file = HurlFile::parse(Path::new("login.hurl"), text, &known)?;
//! let mut variables = Variables::new();
//! variables.insert("site", "http://127.0.0.1:8080");
//! variables.insert_secret("password", "p\"w");
//! let request = file.entries()[0].request(&variables).unwrap();
//! assert_eq!(request.body(), r#"{"user": "ana", "password": "p\"w"}"#);
//! # Ok::<(), hurl_checks::HurlFileError>(())
//! ```
//!
//! # What is supported
//!
//! | of Hurl | supported | refused, by name and line |
//! |---|---|---|
//! | request | method, URL, headers, `[Query]`, `[Form]`, `[BasicAuth]`, `[Cookies]` | `[Multipart]` |
//! | body | JSON, text, `base64,`, `hex,` | `file,`, XML, GraphQL, text with a language |
//! | `[Options]` | `retry`, `retry-interval`, `delay`: the caller carries them out | all others |
//! | templates | variables | `newUuid`, `newDate` |
//! | answer | `HTTP`, with version and status or `*`, headers, body | `file,`, XML |
//! | queries | `status`, `version`, `url`, `header`, `cookie`, `body`, `jsonpath`, `regex`, `variable`, `duration`, `bytes`, `sha256` | `xpath`, `md5`, `rawbytes`, `certificate`, `ip`, `redirects` |
//! | filters | `base64Decode` and its kin, `count`, `first`, `jsonpath`, `last`, `nth`, `regex`, `replace`, `replaceRegex`, `split`, `toFloat`, `toHex`, `toInt`, `toString`, `urlDecode`, `urlEncode`, `urlQueryParam`, `utf8Decode`, `utf8Encode` | dates, HTML, charsets, `location`, `xpath` |
//! | predicates | all others, with `not` | `isDate` |
//!
//! It differs from the program `hurl` in these points:
//! - Numbers compare [exactly](Number).
//! - A JSON body of an answer is compared by its values, not by its text.
//! - A JSONPath is one of RFC 9535.

mod assertion;
mod body;
mod cookie;
mod curl;
mod entry;
mod error;
mod expectation;
mod filter;
mod hurl_file;
mod json_path;
mod number;
mod options;
mod pattern;
mod percent;
mod predicate;
mod query;
mod request;
mod response;
mod scope;
mod source;
mod template;
mod value;
mod variables;

#[cfg(test)]
mod tests;

pub use assertion::{Assertion, Failure};
pub use entry::Entry;
pub use error::{EntryError, HurlFileError};
pub use hurl_file::HurlFile;
pub use number::Number;
pub use options::Options;
pub use response::Response;
pub use value::Value;
pub use variables::Variables;
