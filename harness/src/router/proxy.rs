//! Passes a request on to the service its route names.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, TE, TRAILER, UPGRADE};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Upstreams;
use super::table::{Destination, RouteTable};
use crate::config::Platform;

/// ingress-nginx's defaults: `proxy-connect-timeout` 5 s, `proxy-read-timeout` 60 s.
const CONNECT: Duration = Duration::from_secs(5);
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

type Body = BoxBody<Bytes, hyper::Error>;

pub(super) struct Proxy {
    /// A browser that opens `http://127.0.0.1:PORT/` should see the site.
    site_host: String,
    table: RouteTable,
    upstreams: Upstreams,
    client: Client<HttpConnector, Incoming>,
}

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
        }
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let host = self.host(&request);
        let Some(destination) = self.table.find(&host, request.uri().path()) else {
            return refusal(
                StatusCode::NOT_FOUND,
                format!("no route for {host}{}", request.uri().path()),
            );
        };
        let Some(&address) = self.upstreams.get(&destination.service) else {
            return refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{} is not here", destination.service),
            );
        };
        match self
            .pass_on(request, &destination, address, &host, peer)
            .await
        {
            Ok(response) => response,
            Err((status, reason)) => refusal(status, format!("{}: {reason}", destination.service)),
        }
    }

    /// Lower case, without port; the loopback's own names mean the site.
    fn host(&self, request: &Request<Incoming>) -> String {
        let header = request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        let named = request.uri().host().or(header).unwrap_or_default();
        let host = named.rsplit_once(':').map_or(named, |(host, _port)| host);
        match host {
            "127.0.0.1" | "localhost" => self.site_host.clone(),
            host => host.to_ascii_lowercase(),
        }
    }

    async fn pass_on(
        &self,
        request: Request<Incoming>,
        destination: &Destination,
        address: SocketAddr,
        host: &str,
        peer: SocketAddr,
    ) -> Result<Response<Body>, (StatusCode, String)> {
        let (mut parts, body) = request.into_parts();
        let query = parts
            .uri
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        parts.uri = format!("http://{address}{}{query}", destination.path)
            .parse::<Uri>()
            .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        drop_hop_by_hop(&mut parts.headers);
        forward_origin(&mut parts.headers, host, peer);
        let sent = self.client.request(Request::from_parts(parts, body));
        match tokio::time::timeout(READ, sent).await {
            Ok(Ok(response)) => {
                let (mut parts, body) = response.into_parts();
                drop_hop_by_hop(&mut parts.headers);
                Ok(Response::from_parts(parts, body.boxed()))
            }
            Ok(Err(error)) => Err((StatusCode::BAD_GATEWAY, error.to_string())),
            Err(_) => Err((
                StatusCode::GATEWAY_TIMEOUT,
                format!("no answer within {READ:?}"),
            )),
        }
    }
}

/// The standard ones, and those that `Connection` names.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
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
}

/// As ingress-nginx: set, not appended to, so that a client cannot pretend.
fn forward_origin(headers: &mut HeaderMap, host: &str, peer: SocketAddr) {
    let peer = peer.ip().to_string();
    let values = [
        (HOST, host),
        (HeaderName::from_static("x-forwarded-for"), &peer),
        (HeaderName::from_static("x-forwarded-host"), host),
        (HeaderName::from_static("x-forwarded-proto"), "http"),
        (HeaderName::from_static("x-real-ip"), &peer),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

/// The router's own answer; it has no `x-trii-*` headers, which tells it from a service's.
fn refusal(status: StatusCode, why: String) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("router: {why}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}
