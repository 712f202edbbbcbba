//! The origin of all requests (RFC 9110, section 4.3.1), and what each has beside its own headers.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Request, Uri};

use super::plan::{ConnectionMode, LoadPlan, PlanError};

/// The body of a request.
pub type Body = Full<Bytes>;

/// Where requests go, by which protocol.
pub struct Origin {
    /// `https://api.example`, and the path of the target's URL: `{{api}}`.
    pub base: String,
    scheme: &'static str,
    authority: String,
    is_http2: bool,
    /// Those of each request, unless it has others.
    headers: HeaderMap,
}

impl Origin {
    /// # Errors
    /// An invalid URL of the plan's target.
    pub fn of(plan: &LoadPlan) -> Result<Origin, PlanError> {
        let wrong = |why| PlanError::new("target.url", why);
        let parts = plan.target.parts().map_err(wrong)?;
        let host = HeaderValue::from_str(&parts.authority);
        let host = host.map_err(|error| wrong(error.to_string()))?;
        let is_http2 = matches!(plan.connections, ConnectionMode::Http2 { .. });
        let mut headers = HeaderMap::new();
        // HTTP/2 has pseudo-headers (RFC 9113, section 8.3.1); HTTP/1.1 has `Host`.
        if !is_http2 {
            headers.insert(HOST, host);
        }
        if plan.connections == ConnectionMode::New {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers.insert(USER_AGENT, HeaderValue::from_static("trii-load"));
        let scheme = if parts.tls { "https" } else { "http" };
        let path = parts.path.path().trim_end_matches('/');
        Ok(Origin {
            base: format!("{scheme}://{}{path}", parts.authority),
            scheme,
            authority: parts.authority,
            is_http2,
            headers,
        })
    }

    /// Returns what a connection sends for a request with a whole URL.
    ///
    /// # Errors
    /// The URL leads elsewhere.
    pub fn addressed(&self, request: Request<Bytes>) -> Result<Request<Body>, String> {
        let (mut parts, body) = request.into_parts();
        let authority = parts.uri.authority().map(|it| it.as_str());
        if parts.uri.scheme_str() != Some(self.scheme) || authority != Some(self.authority.as_str())
        {
            let (scheme, to) = (parts.uri.scheme_str(), authority.unwrap_or_default());
            let scheme = scheme.unwrap_or_default();
            return Err(format!("{scheme}://{to} is not at {{{{api}}}}"));
        }
        if !self.is_http2 {
            let path = parts.uri.path_and_query().cloned();
            parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
        for (name, value) in &self.headers {
            parts.headers.entry(name).or_insert_with(|| value.clone());
        }
        Ok(Request::from_parts(parts, Full::new(body)))
    }

    /// Returns the whole URL of such a request.
    pub fn url(&self, request: &Request<Body>) -> String {
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        format!("{}://{}{path}", self.scheme, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use prober::ProbeTarget;

    use super::*;

    fn origin(connections: ConnectionMode) -> Origin {
        let target = ProbeTarget::of("http://127.0.0.1:1/api/");
        let mut plan = LoadPlan::of(target, vec![], vec![]);
        plan.connections = connections;
        Origin::of(&plan).unwrap()
    }

    fn addressed(connections: ConnectionMode, url: &str) -> Result<Request<Body>, String> {
        let request = Request::get(url).header("x-own", "1").body(Bytes::new());
        origin(connections).addressed(request.unwrap())
    }

    #[test]
    fn requests_have_the_headers_of_their_protocol() {
        let url = "http://127.0.0.1:1/api/quotes?limit=1";
        assert_eq!(origin(ConnectionMode::New).base, "http://127.0.0.1:1/api");
        let request = addressed(ConnectionMode::KeepAlive, url).unwrap();
        assert_eq!(request.uri(), "/api/quotes?limit=1");
        assert_eq!(request.headers()[HOST], "127.0.0.1:1");
        assert_eq!(request.headers()["x-own"], "1");
        assert_eq!(origin(ConnectionMode::KeepAlive).url(&request), url);
        let request = addressed(ConnectionMode::Http2 { streams: 8 }, url).unwrap();
        assert_eq!(request.uri(), url);
        assert!(!request.headers().contains_key(HOST));
        let request = addressed(ConnectionMode::New, url).unwrap();
        assert_eq!(request.headers()[CONNECTION], "close");
    }

    #[test]
    fn a_request_to_another_origin_is_refused() {
        for url in [
            "https://127.0.0.1:1/",
            "http://127.0.0.1:2/",
            "http://other/",
        ] {
            let refused = addressed(ConnectionMode::KeepAlive, url).unwrap_err();
            assert!(refused.ends_with(" is not at {{api}}"), "{refused}");
        }
    }
}
