//! Forwards a request to the service of its route.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, TE, TRAILER, UPGRADE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_http::timeout::TimeoutBody;

use super::table::{Destination, RouteTable};
use super::upgrades::{self, Upgrades};
use super::{Backends, Upstreams, path};
use crate::config::Platform;

/// ingress-nginx's `proxy-connect-timeout`.
const CONNECT: Duration = Duration::from_secs(5);

/// ingress-nginx's `proxy-read-timeout`: between two reads, not for the complete answer.
const READ: Duration = Duration::from_secs(60);

/// Shorter than a service's idle timeout, so that the service seldom closes a pooled connection.
const IDLE_UPSTREAM: Duration = Duration::from_secs(30);

/// The headers for one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    TE,
    TRAILER,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("transfer-encoding"),
];

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Body = BoxBody<Bytes, BoxError>;

pub(super) struct Proxy {
    /// The host for requests to 127.0.0.1, for browsers.
    site_host: String,
    table: RouteTable,
    upstreams: Upstreams,
    client: Client<HttpConnector, BoxBody<Bytes, hyper::Error>>,
    read_timeout: Duration,
    upgrades: Upgrades,
}

/// Why a request was not forwarded, or failed.
type Refusal = (StatusCode, String);

impl Proxy {
    pub(super) fn new(platform: &Platform, table: RouteTable, upstreams: Upstreams) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_UPSTREAM)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Proxy {
            site_host: platform.site_host.clone(),
            table,
            upstreams,
            client,
            read_timeout: READ,
            upgrades: Upgrades::default(),
        }
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Body> {
        // A request to the router itself (RFC 9110, 9.3.7).
        if request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return Response::new(Full::default().map_err(|never| match never {}).boxed());
        }
        let answered = match self.route(&request) {
            Ok((destination, address)) => self.forward(request, &destination, address, peer).await,
            Err(refusal) => Err(refusal),
        };
        answered.unwrap_or_else(|(status, why)| refuse(status, &why))
    }

    fn route(&self, request: &Request<Incoming>) -> Result<(Destination, SocketAddr), Refusal> {
        if request.method() == Method::CONNECT {
            return Err((StatusCode::NOT_IMPLEMENTED, "no tunnels".into()));
        }
        // RFC 9110, 10.1.1.
        let expected = request.headers().get_all(EXPECT).iter();
        let mut unknown =
            expected.filter(|it| !it.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if unknown.next().is_some() {
            let why = "only 100-continue is expected of us".into();
            return Err((StatusCode::EXPECTATION_FAILED, why));
        }
        let host = self.host(request)?;
        let raw = request.uri().path();
        let path = path::normalised(raw)
            .ok_or_else(|| (StatusCode::BAD_REQUEST, format!("{raw} is no path")))?;
        let destination = self
            .table
            .find(&host, &path)
            .ok_or_else(|| (StatusCode::NOT_FOUND, format!("no route for {host}{path}")))?;
        let service = &destination.service;
        match self.upstreams.get(service).and_then(Backends::next) {
            Some(address) => Ok((destination, address)),
            None => Err((
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{service} is not here"),
            )),
        }
    }

    /// Lower case, without port. The names of the loopback interface mean the site.
    fn host(&self, request: &Request<Incoming>) -> Result<String, Refusal> {
        let mut headers = request.headers().get_all(HOST).iter();
        let named = match (request.uri().host(), headers.next(), headers.next()) {
            // An absolute-form target has precedence over the header (RFC 9112, 3.2.2).
            (Some(host), _, None) => host,
            (None, Some(host), None) => host.to_str().unwrap_or_default(),
            // RFC 9112, 3.2: exactly one.
            _ => return Err((StatusCode::BAD_REQUEST, "one Host header, please".into())),
        };
        let host = match named.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => named,
        };
        let is_name = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_');
        match host.strip_suffix('.').unwrap_or(host) {
            "127.0.0.1" | "localhost" => Ok(self.site_host.clone()),
            host if host.bytes().all(is_name) => Ok(host.to_ascii_lowercase()),
            host => Err((StatusCode::BAD_REQUEST, format!("{host:?} is no host"))),
        }
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        destination: &Destination,
        address: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Refusal> {
        let service = &destination.service;
        let upgrade = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        parts.uri = target(&parts.uri, destination, address)?;
        // Each hop uses its own version (RFC 9112, 2.3).
        parts.version = Version::HTTP_11;
        remove_hop_by_hop(&mut parts.headers);
        forward_origin(&mut parts.headers, peer);
        let (body, sending) = watched(body);
        let sent = self.client.request(Request::from_parts(parts, body));
        match self.unless_silent(sent, &sending).await {
            Some(Ok(mut response)) => {
                self.upgrades.forward(upgrade, &mut response);
                let (mut parts, body) = response.into_parts();
                remove_hop_by_hop(&mut parts.headers);
                let body = TimeoutBody::new(self.read_timeout, body);
                Ok(Response::from_parts(parts, BodyExt::boxed(body)))
            }
            Some(Err(error)) => {
                let why = base::chain(&error);
                Err((StatusCode::BAD_GATEWAY, format!("{service}: {why}")))
            }
            None => {
                let why = format!("{service}: nothing for {:?}", self.read_timeout);
                Err((StatusCode::GATEWAY_TIMEOUT, why))
            }
        }
    }

    /// Returns the answer's head. `None` if neither the answer nor a part of the request arrives
    /// within the read timeout.
    async fn unless_silent<T>(
        &self,
        answer: impl Future<Output = T>,
        sending: &Mutex<Instant>,
    ) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let since = *sending.lock().unwrap_or_else(PoisonError::into_inner);
            let end = tokio::time::Instant::from_std(since + self.read_timeout);
            if let Ok(answer) = tokio::time::timeout_at(end, answer.as_mut()).await {
                return Some(answer);
            }
            if *sending.lock().unwrap_or_else(PoisonError::into_inner) == since {
                return None;
            }
        }
    }
}

/// Returns a request's body, and when a part of it was last sent.
fn watched(body: Incoming) -> (BoxBody<Bytes, hyper::Error>, Arc<Mutex<Instant>>) {
    let last = Arc::new(Mutex::new(Instant::now()));
    if body.is_end_stream() {
        // A mapped body would be sent as an empty chunked one.
        return (body.boxed(), last);
    }
    let sent = Arc::clone(&last);
    let body = body.map_frame(move |frame| {
        *sent.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        frame
    });
    (body.boxed(), last)
}

fn target(uri: &Uri, destination: &Destination, address: SocketAddr) -> Result<Uri, Refusal> {
    let path = &destination.path;
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("http://{address}{path}{query}")
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| (StatusCode::BAD_REQUEST, error.to_string()))
}

/// Removes the headers for one connection only: the standard ones and those that `Connection`
/// names, except the protocol to change to.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let protocol = upgrades::protocol(headers);
    let named: Vec<HeaderName> = upgrades::connection_headers(headers)
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
    upgrades::set_protocol(headers, protocol);
}

/// As ingress-nginx: the client's `Host` stays. Other headers about the origin are replaced, so
/// that a client cannot forge them.
fn forward_origin(headers: &mut HeaderMap, peer: SocketAddr) {
    let peer = HeaderValue::from_str(&peer.ip().to_string()).ok();
    let values = [
        ("x-forwarded-for", peer.clone()),
        ("x-real-ip", peer),
        ("x-forwarded-host", headers.get(HOST).cloned()),
        ("x-forwarded-proto", Some(HeaderValue::from_static("http"))),
    ];
    for (name, value) in values {
        match value {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
}

/// The router's answer. Unlike a service's, it has no header that names what answered.
fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("router: {why}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
