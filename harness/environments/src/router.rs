//! The local target's substitute for the ingress: the same hosts, paths and rewrites.
//!
//! It matches routes as ingress-nginx does: the longest path of a host first, `Prefix` by element,
//! a regex from the start of the path and case-insensitive
//! (<https://kubernetes.github.io/ingress-nginx/user-guide/ingress-path-matching/>). It normalises
//! paths as the kind target's ingress does. The tests send the same requests to both.

mod backends;
mod path;
pub(crate) mod proxy;
mod table;
mod upgrades;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use miette::Diagnostic;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use backends::Backends;
pub use table::{RouteTable, must_lead_to_their_service};

use crate::config::Platform;
use base::listener::accepted;

/// nginx closes an idle client connection after 75 s (`keepalive_timeout`).
const IDLE_CLIENT: Duration = Duration::from_secs(75);

/// The maximum of headers. Together they may have 400 KiB; nginx limits only the bytes.
const HEADERS: usize = 1000;

/// The addresses of each service.
pub type Upstreams = BTreeMap<String, Backends>;

/// A running router; it stops when dropped.
pub struct Router {
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

/// The router's port is in use.
#[derive(Debug, Error, Diagnostic)]
#[error("the router cannot listen on 127.0.0.1:{port}: {source}")]
#[diagnostic(help(
    "another process has the port (`ss -ltnp 'sport = :{port}'` names it); end it, or set router_port = 0 in harness.toml to take a free one"
))]
pub struct PortTaken {
    port: u16,
    source: std::io::Error,
}

impl Router {
    /// Listens on the port of 127.0.0.1 (0: any free one). Connections wait until
    /// [`Router::serve`].
    pub async fn bind(port: u16) -> Result<TcpListener, PortTaken> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|source| PortTaken { port, source })
    }

    /// Starts to answer on `listener`.
    pub fn serve(
        listener: TcpListener,
        platform: &Platform,
        table: RouteTable,
        upstreams: Upstreams,
    ) -> std::io::Result<Router> {
        let address = listener.local_addr()?;
        let proxy = Arc::new(proxy::Proxy::new(platform, table, upstreams));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(accept(listener, proxy, stop.clone()));
        Ok(Router {
            address,
            stop,
            serving,
        })
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops, with at most `grace` for requests in flight.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        // Then drop aborts what is left.
        let _ = tokio::time::timeout(grace, &mut self.serving).await;
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.cancel();
        self.serving.abort();
    }
}

async fn accept(listener: TcpListener, proxy: Arc<proxy::Proxy>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (stream, peer) = accepted(&listener) => {
                connections.spawn(connection(stream, peer, Arc::clone(&proxy), stop.clone()));
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    proxy: Arc<proxy::Proxy>,
    stop: CancellationToken,
) {
    let answer = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, std::convert::Infallible>(proxy.answer(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_CLIENT)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
