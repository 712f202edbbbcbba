//! An HTTP client that sends requests as users do: to a host name, through the ingress or router.

use std::collections::BTreeMap;

use base::entry_point::EntryPoint;
use base::proxies::Proxies;
use bytes::Bytes;
use environments::environment::Environment;
use environments::exchange::exchange;
use kubernetes::prober::IdentityHeaders;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::Mismatch;

/// Sends requests to the platform under its real host names.
#[derive(Clone)]
pub struct PlatformClient {
    http: reqwest::Client,
    site: String,
    api: String,
    entry: EntryPoint,
}

/// A request to send.
#[derive(Clone)]
pub struct PlatformRequest<'a> {
    client: &'a PlatformClient,
    method: Method,
    host: String,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
}

/// A response.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers, by name in lower case. Of repeated headers, the last.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub text: String,
    url: String,
    /// The command that repeats the request.
    repeat: String,
}

impl PlatformClient {
    /// Creates a client that connects to `entry`, which may differ from the environment's own.
    ///
    /// # Errors
    /// As [`EntryPoint::client`].
    pub fn new(environment: &Environment, entry: &EntryPoint) -> std::io::Result<Self> {
        let hosts = [&environment.site_host, &environment.api_host];
        Ok(PlatformClient {
            http: entry.client(hosts.map(String::as_str), &Proxies::of_this_process())?,
            site: environment.site_host.clone(),
            api: environment.api_host.clone(),
            entry: entry.clone(),
        })
    }

    /// Creates a request to the site's host.
    pub fn site(&self, method: Method, path: &str) -> PlatformRequest<'_> {
        self.to(&self.site, method, path)
    }

    /// Creates a request to the API's host.
    pub fn api(&self, method: Method, path: &str) -> PlatformRequest<'_> {
        self.to(&self.api, method, path)
    }

    /// Creates a request to one of the hosts.
    pub fn to(&self, host: &str, method: Method, path: &str) -> PlatformRequest<'_> {
        PlatformRequest {
            client: self,
            method,
            host: host.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }
}

impl PlatformClient {
    /// Sends a request as it is, and waits for the whole answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn exchange(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<hurl_checks::Response, String> {
        let exchanged = exchange(&self.http, request).await;
        exchanged.map_err(|error| base::chain(&error))
    }

    /// Adds to a command of curl how it reaches the platform.
    pub fn reaching(&self, curl: &str) -> String {
        let mut hosts = [&self.site, &self.api].into_iter();
        let host = hosts.find(|host| curl.contains(&self.entry.url(host)));
        let options = host.map_or_else(String::new, |host| self.entry.curl_options(host));
        curl.replacen("curl ", &format!("curl {options}"), 1)
    }
}

impl PlatformRequest<'_> {
    /// Adds a bearer token (RFC 6750).
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets a JSON body.
    pub fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Sends the request. Fails only if there is no response.
    pub async fn send(self) -> Result<Response, Mismatch> {
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
            Ok((status, headers, text)) => Ok(Response {
                status,
                headers,
                text,
                url,
                repeat,
            }),
            Err(error) => Err(Mismatch {
                expected: "an answer".into(),
                seen: base::chain(&error),
                look_at: url,
                next: repeat,
            }),
        }
    }

    /// Sends the request. Fails unless the response has this status.
    pub async fn expect(self, status: u16) -> Result<Response, Mismatch> {
        self.send().await?.expect(status)
    }

    fn url(&self) -> String {
        format!("{}{}", self.client.entry.url(&self.host), self.path)
    }

    /// Returns the request as a `curl` command, without tokens and passwords.
    fn curl(&self) -> String {
        let mut line = format!("curl -si -X {}", self.method);
        for (name, value) in &self.headers {
            match *name {
                "authorization" => line += " -H 'authorization: Bearer '$TOKEN",
                name => line += &format!(" -H '{name}: {value}'"),
            }
        }
        if let Some(body) = &self.body
            && body.get("password").is_none()
        {
            line += &format!(" -H 'content-type: application/json' -d '{body}'");
        }
        let options = self.client.entry.curl_options(&self.host);
        format!("{line} {options}'{}'", self.url())
    }
}

impl Response {
    /// Returns the response, if it has this status.
    pub fn expect(self, status: u16) -> Result<Response, Mismatch> {
        match self.status.as_u16() == status {
            true => Ok(self),
            false => Err(self.mismatch(format!("status {status}"), self.summary())),
        }
    }

    /// Returns the instance that answered, as `headers` name it; may be empty.
    pub fn instance(&self, headers: &IdentityHeaders) -> &str {
        let name = headers.instance.as_ref();
        let instance = name.and_then(|name| self.headers.get(name.as_str()));
        instance.map_or("", String::as_str)
    }

    /// Parses the body as JSON.
    pub fn json(&self) -> Result<Value, Mismatch> {
        serde_json::from_str(&self.text)
            .map_err(|error| self.mismatch("a JSON body", format!("{error}: {}", self.summary())))
    }

    /// Returns a mismatch about this response.
    pub fn mismatch(&self, expected: impl Into<String>, seen: impl Into<String>) -> Mismatch {
        Mismatch {
            expected: expected.into(),
            seen: seen.into(),
            look_at: self.url.clone(),
            next: self.repeat.clone(),
        }
    }

    /// Returns the status and the start of the body, on one line.
    pub fn summary(&self) -> String {
        const MAX_CHARS: usize = 200;
        let text: String = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let short: String = text.chars().take(MAX_CHARS).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        format!("status {}: {short}{more}", self.status.as_u16())
    }
}
