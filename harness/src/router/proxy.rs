//! Passes a request on to the service its route names.

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

/// ingress-nginx's `proxy-read-timeout`: not for the whole answer, but between two reads.
const READ: Duration = Duration::from_secs(60);

/// Shorter than a service's own idle limit, so that a pooled connection is seldom
/// one which the service is just closing.
const IDLE_UPSTREAM: Duration = Duration::from_secs(30);

/// Meant for one connection only (RFC 9110, 7.6.1).
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
/// An answer's body.
pub(super) type Body = BoxBody<Bytes, BoxError>;

pub(super) struct Proxy {
    /// A browser that opens `http://127.0.0.1:PORT/` should see the site.
    site_host: String,
    table: RouteTable,
    upstreams: Upstreams,
    client: Client<HttpConnector, BoxBody<Bytes, hyper::Error>>,
    read_timeout: Duration,
    upgrades: Upgrades,
}

/// Why a request is not passed on, or was in vain.
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
        // Of the router, and of no path (RFC 9110, 9.3.7).
        if request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return Response::new(Full::default().map_err(|never| match never {}).boxed());
        }
        let answered = match self.route(&request) {
            Ok((destination, address)) => self.pass_on(request, &destination, address, peer).await,
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
        let service = destination.service;
        match self.upstreams.get(&service).and_then(Backends::next) {
            Some(address) => Ok((destination, address)),
            None => Err((
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{service} is not here"),
            )),
        }
    }

    /// Lower case, without port; the loopback's own names mean the site.
    fn host(&self, request: &Request<Incoming>) -> Result<String, Refusal> {
        let mut headers = request.headers().get_all(HOST).iter();
        let named = match (request.uri().host(), headers.next(), headers.next()) {
            // An absolute-form target wins over the header (RFC 9112, 3.2.2).
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

    async fn pass_on(
        &self,
        mut request: Request<Incoming>,
        destination: &Destination,
        address: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Refusal> {
        let service = destination.service;
        let upgrade = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        parts.uri = target(&parts.uri, destination, address)?;
        // Each hop speaks its own version (RFC 9112, 2.3).
        parts.version = Version::HTTP_11;
        pass_one_hop(&mut parts.headers);
        forward_origin(&mut parts.headers, peer);
        let (body, sending) = watched(body);
        let sent = self.client.request(Request::from_parts(parts, body));
        match self.unless_silent(sent, &sending).await {
            Some(Ok(mut response)) => {
                self.upgrades.pass_on(upgrade, &mut response);
                let (mut parts, body) = response.into_parts();
                pass_one_hop(&mut parts.headers);
                let body = TimeoutBody::new(self.read_timeout, body);
                Ok(Response::from_parts(parts, BodyExt::boxed(body)))
            }
            Some(Err(error)) => {
                let why = crate::chain(&error);
                Err((StatusCode::BAD_GATEWAY, format!("{service}: {why}")))
            }
            None => {
                let why = format!("{service}: nothing for {:?}", self.read_timeout);
                Err((StatusCode::GATEWAY_TIMEOUT, why))
            }
        }
    }

    /// The answer's head, unless neither it nor a further part of the request came for
    /// the read timeout.
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
            let moved = *sending.lock().unwrap_or_else(PoisonError::into_inner) > since;
            if !moved {
                return None;
            }
        }
    }
}

/// A request's body, and when a part of it was last passed on.
fn watched(body: Incoming) -> (BoxBody<Bytes, hyper::Error>, Arc<Mutex<Instant>>) {
    let last = Arc::new(Mutex::new(Instant::now()));
    if body.is_end_stream() {
        // As it is: a mapped one would be sent as a chunked body of nothing.
        return (body.boxed(), last);
    }
    let moved = Arc::clone(&last);
    let body = body.map_frame(move |frame| {
        *moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
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

/// Drops what is meant for one connection only, the standard ones and those that `Connection`
/// names, but for the protocol to change to.
fn pass_one_hop(headers: &mut HeaderMap) {
    let protocol = upgrades::protocol(headers);
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
    upgrades::set_protocol(headers, protocol);
}

/// As ingress-nginx: the client's own `Host` stays, and what it says of the origin is
/// set, not appended to, so that a client cannot pretend.
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

/// The router's own answer; it has no `x-trii-*` headers, which tells it from a service's.
fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("router: {why}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
