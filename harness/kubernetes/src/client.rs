//! The client of a cluster's API server: its timeouts, its retries, and what it may change.

use std::time::Duration;

use base::proxies::Proxies;
use hyper::Request;
use kube::client::{Body, Client, ClientBuilder};
use kube::config::Kubeconfig;
use tower::buffer::BufferLayer;
use tower::filter::FilterLayer;
use tower::retry::RetryLayer;

use super::retry::Retry;
use super::{Permissions, kubeconfig};

/// How long the API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the API server may pause within an answer. Its own limit is 60 s (`--request-timeout`),
/// but no request of ours takes long.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How many requests may wait for the connection.
const QUEUE: usize = 64;

/// Returns a client for the context. It sends only the changes that `permissions` permits.
///
/// # Errors
/// Why the context cannot be used.
pub fn connect(
    kubeconfig: Kubeconfig,
    context: &str,
    proxies: &Proxies,
    permissions: Permissions,
) -> Result<Client, String> {
    let mut config = kubeconfig::config(kubeconfig, context, proxies)?;
    base::tls::use_ring();
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.write_timeout = Some(READ_TIMEOUT);
    // Otherwise the idle time of a connection counts towards the read timeout.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    let client = ClientBuilder::try_from(config)
        .map_err(|error: kube::Error| base::chain(&error))?
        // Innermost, so that no request bypasses it.
        .with_layer(&FilterLayer::new(move |request: Request<Body>| {
            permissions.pass(request)
        }))
        .with_layer(&BufferLayer::new(QUEUE))
        .with_layer(&RetryLayer::new(Retry::default()))
        .build();
    Ok(client)
}
