//! The platform as its users reach it: by host name, through the ingress or router.

use std::collections::BTreeMap;

use harness::entry::Entry;
use harness::environment::Environment;
use harness::proxies::Proxies;
use harness::service::Service;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::Mismatch;

/// Calls the platform under its real host names.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    site: String,
    api: String,
    entry: Entry,
}

/// A call to be made.
#[derive(Clone)]
pub struct Call<'a> {
    client: &'a Client,
    method: Method,
    host: String,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
}

/// What was answered.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Header names in lower case; of repeated ones the last.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub text: String,
    /// The URL asked.
    url: String,
    /// The command that repeats the call.
    repeat: String,
}

impl Client {
    /// Comes in by `entry`, which need not be the environment's own.
    ///
    /// # Errors
    /// As [`Entry::client`].
    pub fn new(environment: &Environment, entry: &Entry) -> std::io::Result<Self> {
        let hosts = [&environment.site_host, &environment.api_host];
        Ok(Client {
            http: entry.client(hosts.map(String::as_str), &Proxies::of_this_process())?,
            site: environment.site_host.clone(),
            api: environment.api_host.clone(),
            entry: entry.clone(),
        })
    }

    /// A call to the site's host.
    pub fn site(&self, method: Method, path: &str) -> Call<'_> {
        self.to(&self.site, method, path)
    }

    /// A call to the API's host.
    pub fn api(&self, method: Method, path: &str) -> Call<'_> {
        self.to(&self.api, method, path)
    }

    /// A call that says another host than it connects to.
    pub fn with_host(&self, host: &str, path: &str) -> Call<'_> {
        self.site(Method::GET, path).header("host", host)
    }

    fn to(&self, host: &str, method: Method, path: &str) -> Call<'_> {
        Call {
            client: self,
            method,
            host: host.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }
}

impl Call<'_> {
    /// With a bearer token (RFC 6750).
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a JSON body.
    pub fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Makes the call; fails only if nothing was answered.
    pub async fn send(self) -> Result<Answer, Mismatch> {
        let url = self.url();
        let repeat = self.curl();
        let mut request = self.client.http.request(self.method, &url);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        let read = async {
            let response = request.send().await?;
            let status = response.status();
            let headers = response
                .headers()
                .iter()
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    (name.as_str().to_owned(), value.into_owned())
                })
                .collect();
            Ok::<_, reqwest::Error>((status, headers, response.text().await?))
        };
        match read.await {
            Ok((status, headers, text)) => Ok(Answer {
                status,
                headers,
                text,
                url,
                repeat,
            }),
            Err(error) => Err(Mismatch {
                expected: "an answer".into(),
                seen: harness::chain(&error),
                look_at: url,
                next: repeat,
            }),
        }
    }

    fn url(&self) -> String {
        format!("{}{}", self.client.entry.url(&self.host), self.path)
    }

    /// The same call for a person to repeat; a token stays out of it.
    fn curl(&self) -> String {
        let mut line = format!("curl -si -X {}", self.method);
        for (name, value) in &self.headers {
            match *name {
                "authorization" => line += " -H 'authorization: Bearer '$TOKEN",
                name => line += &format!(" -H '{name}: {value}'"),
            }
        }
        if let Some(body) = self
            .body
            .as_ref()
            .filter(|body| body.get("password").is_none())
        {
            line += &format!(" -H 'content-type: application/json' -d '{body}'");
        }
        let options = self.client.entry.curl_options(&self.host);
        format!("{line} {options}'{}'", self.url())
    }
}

impl Answer {
    /// The answer, if it has this status.
    pub fn expect(self, status: u16) -> Result<Answer, Mismatch> {
        match self.status.as_u16() == status {
            true => Ok(self),
            false => Err(self.mismatch(format!("status {status}"), self.in_words())),
        }
    }

    /// The answer, if this service gave it, in this version.
    pub fn expect_from(self, service: Service, version: &str) -> Result<Answer, Mismatch> {
        let header = |name: &str| self.headers.get(name).map_or("none", String::as_str);
        let seen = (header("x-trii-service"), header("x-trii-version"));
        if seen == (service.name(), version) && !self.instance().is_empty() {
            return Ok(self);
        }
        let expected = format!("an answer of {service} {version}, and its instance");
        let seen = format!("{} {} (instance {:?})", seen.0, seen.1, self.instance());
        Err(self.mismatch(expected, seen))
    }

    /// Which instance answered.
    pub fn instance(&self) -> &str {
        self.headers
            .get("x-trii-instance")
            .map_or("", String::as_str)
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value, Mismatch> {
        serde_json::from_str(&self.text)
            .map_err(|error| self.mismatch("a JSON body", format!("{error}: {}", self.in_words())))
    }

    /// The claim did not hold of this answer.
    pub fn mismatch(&self, expected: impl Into<String>, seen: impl Into<String>) -> Mismatch {
        Mismatch {
            expected: expected.into(),
            seen: seen.into(),
            look_at: self.url.clone(),
            next: self.repeat.clone(),
        }
    }

    /// Status and the beginning of the body, on one line.
    pub fn in_words(&self) -> String {
        const LONG_ENOUGH: usize = 200;
        let text: String = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let short: String = text.chars().take(LONG_ENOUGH).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        format!("status {}: {short}{more}", self.status.as_u16())
    }
}
